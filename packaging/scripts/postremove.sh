#!/bin/sh
# For deb (remove, purge, upgrade NEW-VERSION) and rpm (0: removed, 1: upgraded). Data and keys are deleted by their
# operator alone.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
case "$1" in
purge | 0)
	if [ -d /var/lib/visage ]; then
		echo "visage: data and keys stay in /var/lib/visage, credentials in /etc/visage/credentials, and so does the" \
			"user visage."
		echo "visage: to delete all of it for good: rm -rf /var/lib/visage /etc/visage && userdel visage"
	fi
	;;
esac
