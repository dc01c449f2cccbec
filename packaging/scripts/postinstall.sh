#!/bin/sh
# For deb (configure OLD-VERSION) and rpm (1: installed, 2: upgraded). An installation starts nothing, because the
# operator decides first what opens the data; an upgrade restarts a service that runs.
set -e

case "$1" in
configure) upgrade=${2:+yes} ;;
1) upgrade= ;;
2) upgrade=yes ;;
*) exit 0 ;; # abort-upgrade and the like: nothing was changed
esac

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	if [ -n "$upgrade" ]; then
		systemctl try-restart visage.service || echo "visage: the service does not start: journalctl -u visage" >&2
	fi
fi
if [ -z "$upgrade" ]; then
	echo "visage: set what opens the data in /etc/visage/visage.yaml, then: systemctl enable --now visage"
fi
