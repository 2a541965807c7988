#!/usr/bin/env bash
# Webhooks: 200 deliveries a second for a minute to the real program, which is killed with SIGKILL three times meanwhile.
# Half of them announce edits of a small CRM that is asked by id, half bring whole records. A sender that got no 2xx sends
# again. Afterwards the sandbox must hold every edit: lost 0. Prints p50 and p99 of the answers.
#
# Needs curl and python3. SYNC_BIN names the program, by default the debug build; RATE, SECONDS_LONG and KILLS change the
# load. Everything listens on loopback and is gone at the end; after a failure the logs stay and their place is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
rate=${RATE:-200} long=${SECONDS_LONG:-60} kills=${KILLS:-3}
[ -x "$bin" ] || { echo "hooks.sh: $bin is missing: cargo build --locked" >&2; exit 1; }

work=$(mktemp -d)
. "$here/stage.sh"
sender_pid='' daemon_pid=''

finish() {
  local status=$?
  trap - EXIT
  for pid in $sender_pid $daemon_pid $sandbox_pid; do kill "$pid" 2>/dev/null || true; done
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "hooks.sh: failed; logs are in $work" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

start_sandbox --seed 1
crm=$(free_port) private=$(free_port) public=$(free_port)
sed -i "s/^address = \"off\"/address = \"127.0.0.1:$private\"\npublic_address = \"127.0.0.1:$public\"/" "$work/reteno.toml"
cat "$work/reteno.toml" - >"$work/config.toml" <<END
[source.crm]
kind = "http"
base_url = "http://127.0.0.1:$crm"
key = "\$.id"

[source.crm.list]
path = "/people"
query = { since = "{start}", page = "{page}", size = "{page_size}" }
records = "\$.people[*]"

[source.crm.cursor]
path = "\$.at"
format = "unix_s"

[source.crm.pagination]
kind = "page"
page_size = 100

[source.crm.fetch]
path = "/people"
query = { "id[]" = "{ids}" }
records = "\$.people[*]"
batch = 100

[source.crm.webhook]
verify = "path_token"
token = "hooks-hooks-hooks-hooks-hooks-hooks"
id = "\$.id"

[source.crm.contact]
externalCustomerId = { path = "\$.id", prefix = "crm-" }
email = "\$.email"
town = "\$.town"

[source.shop]
kind = "webhook"
changed_at = "\$.at"

[source.shop.webhook]
verify = "path_token"
token = "hooks-hooks-hooks-hooks-hooks-hooks"
id = "\$.id"
record = "\$"

[source.shop.contact]
externalCustomerId = { path = "\$.id", prefix = "shop-" }
email = "\$.email"
town = "\$.town"
END
authorize

start_daemon() {
  "$bin" --config "$work/config.toml" -v run >>"$work/daemon.out" 2>>"$work/daemon.log" &
  daemon_pid=$!
}

start_daemon
wait_for "the daemon" curl --silent --fail "http://127.0.0.1:$private/livez"
python3 "$here/hooks.py" "$crm" "$public" "$rate" "$long" "$work/truth.json" >"$work/sender.out" 2>"$work/sender.log" &
sender_pid=$!
say "sending $rate a second for $long s"
for ((kill = 1; kill <= kills; kill++)); do
  sleep "$((long / (kills + 1)))"
  kill -9 "$daemon_pid"
  wait "$daemon_pid" 2>/dev/null || true
  start_daemon
  say "killed and started anew ($kill of $kills)"
done
# it goes on as the CRM until it is told to end
wait_for_file() { [ -s "$work/truth.json" ]; }
for ((tries = 0; tries < 20; tries++)); do
  if wait_for_file; then break; fi
  sleep 5
done
wait_for_file || fail "the sender has not ended: $(tail -n 3 "$work/sender.log")"
say "$(tail -n 1 "$work/sender.out")"

is_equal() {
  save_contacts end
  python3 "$here/hooks.py" compare "$work/truth.json" "$work/end.jsonl" >"$work/compare.out"
}
for ((tries = 0; tries < 120; tries++)); do
  if is_equal; then break; fi
  sleep 1
done
say "$(tail -n 1 "$work/compare.out")"
is_equal || fail "events are lost"
curl --silent --fail "http://127.0.0.1:$private/metrics" | grep -v '^#' || true
kill -TERM "$daemon_pid"
wait "$daemon_pid" || fail "the daemon did not end well"
daemon_pid=''
say "done"
