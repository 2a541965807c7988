#!/usr/bin/env bash
# A private PostgreSQL server on loopback: `pg.sh start DIR PORT`, `pg.sh stop DIR`.
#
# DIR is made, and holds everything; another server of this machine is not touched. The server trusts every local
# connection and does not sync to disk: for tests only. As root it runs as the user postgres, since initdb refuses root.
set -euo pipefail

command=${1:?start or stop}
dir=${2:?the directory of the server}
bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -n 1)
[ -n "$bin" ] || { echo "pg.sh: no PostgreSQL server below /usr/lib/postgresql: apt-get install postgresql" >&2; exit 1; }

as_owner() {
  if [ "$(id -u)" -eq 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

case $command in
start)
  port=${3:?the port}
  if [ "$(id -u)" -eq 0 ]; then install -d -o postgres -g postgres -m 700 "$dir"; else install -d -m 700 "$dir"; fi
  # The C.UTF-8 locale is there on every Debian; sorting plays no part in the tests.
  as_owner "$bin/initdb" -D "$dir" -A trust -U postgres --no-sync -E UTF8 --locale=C.UTF-8 >/dev/null
  as_owner "$bin/pg_ctl" -D "$dir" -w -t 30 -l "$dir/log" -o "-c listen_addresses=127.0.0.1 -p $port \
    -c unix_socket_directories='$dir' -c fsync=off -c shared_buffers=64MB" start >/dev/null
  ;;
stop)
  as_owner "$bin/pg_ctl" -D "$dir" -m fast -w -t 30 stop >/dev/null
  ;;
*)
  echo "pg.sh: $command: not start or stop" >&2
  exit 2
  ;;
esac
