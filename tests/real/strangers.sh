#!/usr/bin/env bash
# Strangers at the public port: 10,000 connections that pipeline and read nothing, send heads slowly or say nothing, and
# then 8 unproven bodies of 1 MB a second. Beside them a good sender makes deliveries, of which none may fail, with a p99
# below 200 ms. Prints its times and the program's memory.
#
# Needs curl and python3. SYNC_BIN names the program, by default the debug build; FLOOD, BOMBS and SECONDS_LONG change the
# load. Everything listens on loopback and is gone at the end; after a failure the logs stay and their place is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
flood=${FLOOD:-10000} bombs=${BOMBS:-8} long=${SECONDS_LONG:-30}
[ -x "$bin" ] || { echo "strangers.sh: $bin is missing: cargo build --locked" >&2; exit 1; }

work=$(mktemp -d)
. "$here/stage.sh"
daemon_pid='' flood_pid=''

finish() {
  local status=$?
  trap - EXIT
  for pid in $flood_pid $daemon_pid $sandbox_pid; do kill "$pid" 2>/dev/null || true; done
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "strangers.sh: failed; logs are in $work" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

start_sandbox --seed 1
private=$(free_port) public=$(free_port)
sed -i "s/^address = \"off\"/address = \"127.0.0.1:$private\"\npublic_address = \"127.0.0.1:$public\"/" "$work/reteno.toml"
token=hooks-hooks-hooks-hooks-hooks-hooks
source_of() {
  cat <<END
[source.$1]
kind = "webhook"

[source.$1.webhook]
id = "\$.id"
record = "\$"
$2

[source.$1.contact]
externalCustomerId = { path = "\$.id", prefix = "$1-" }
email = "\$.email"

END
}
{
  cat "$work/reteno.toml"
  source_of path "verify = \"path_token\"
token = \"$token\""
  source_of signed "verify = \"hmac\"
secret = \"$token\"
hmac.header = \"x-signature\""
  source_of token "verify = \"body_token\"
token_path = \"\$.token\"
token = \"$token\""
} >"$work/config.toml"
authorize

"$bin" --config "$work/config.toml" run >"$work/daemon.out" 2>"$work/daemon.log" &
daemon_pid=$!
wait_for "the daemon" curl --silent --fail "http://127.0.0.1:$private/livez"

memory() { awk '/VmHWM/ { print int($2 / 1024) " MB at most" }' "/proc/$daemon_pid/status"; }
# measure WHAT SECONDS BOMBS
measure() {
  python3 "$here/strangers.py" measure "$public" "$2" "$3" >"$work/measure.out" || fail "$1: $(cat "$work/measure.out")"
  say "$1: $(cat "$work/measure.out"); $(memory)"
}

measure alone 5 0
# they are elsewhere, and share no core with the program
nice -n 15 python3 "$here/strangers.py" flood "$public" "$flood" "$((long + 30))" >"$work/flood.out" &
flood_pid=$!
for ((tries = 0; tries < 300; tries++)); do
  if [ -s "$work/flood.out" ]; then break; fi
  sleep 0.1
done
[ -s "$work/flood.out" ] || fail "the strangers did not come in 30 s"
measure "$flood strangers" "$long" 0
kill "$flood_pid"
wait "$flood_pid" 2>/dev/null || true
flood_pid=''
measure "large bodies" "$long" "$bombs"
kill -TERM "$daemon_pid"
wait "$daemon_pid" || fail "the daemon did not end well"
daemon_pid=''
say "done"
