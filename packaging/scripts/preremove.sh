#!/bin/sh
# For deb (remove, upgrade NEW-VERSION) and rpm (0: removed, 1: upgraded). An upgrade leaves the service running.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --quiet disable --now visage.service
	elif command -v systemctl >/dev/null; then
		systemctl --quiet disable visage.service
	fi
	;;
esac
