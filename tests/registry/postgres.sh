#!/usr/bin/env bash
# Starts Debian's PostgreSQL with an empty cluster of its own on a loopback port, runs a command with
# MODELLAB_TEST_POSTGRES set to its address, and removes everything again: postgres.sh COMMAND...
set -euo pipefail

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
if [ -z "$bin" ]; then
    echo "Install Debian's PostgreSQL: apt-get install postgresql" >&2
    exit 2
fi
folder=$(mktemp -d /tmp/modellab-postgres.XXXXXX)
as=()
if [ "$(id -u)" = 0 ]; then  # the server refuses to run as root
    chown postgres "$folder"
    as=(runuser -u postgres --)
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd "$folder"
stop() {
    "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT
"${as[@]}" "$bin/initdb" -D "$folder/data" -U modellab -A trust -E UTF8 --no-sync >/dev/null
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -w -l "$folder/log" start \
    -o "-h 127.0.0.1 -p $port -k $folder -c max_connections=300 -c fsync=off" >/dev/null
cd "$OLDPWD"
MODELLAB_TEST_POSTGRES="postgresql://modellab@127.0.0.1:$port" "$@"
