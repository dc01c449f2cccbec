#!/bin/sh
# Makes the service's user, for deb (install, upgrade) and rpm (1, 2).
set -e

if ! getent group visage >/dev/null; then
	groupadd --system visage
fi
if ! getent passwd visage >/dev/null; then
	useradd --system --gid visage --home-dir /var/lib/visage --no-create-home \
		--shell "$(command -v nologin || echo /sbin/nologin)" --comment "Visage face recognition service" visage
fi
