#!/usr/bin/env bash
# Crashes: a first load of 20,000 contacts from a file is killed with SIGKILL at twenty random moments, and before each new
# start the CRM changes ten contacts. Then one run to its end, and one more seven hours later by the clock (libfaketime),
# when no copy of a lost call can land any more. The sandbox says who is wrong, doubled or in two calls at once.
#
# Needs curl, python3 and libfaketime. SYNC_BIN names the program, by default the debug build; SEED decides moments and
# edits. Everything listens on loopback and is gone at the end; after a failure the logs stay and their place is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
seed=${SEED:-1}
readonly contacts=20000 kills=20
[ -x "$bin" ] || { echo "crashes.sh: $bin is missing: cargo build --locked" >&2; exit 1; }
faketime=$(find /usr/lib -name libfaketimeMT.so.1 | head -n 1)
[ -n "$faketime" ] || { echo "crashes.sh: libfaketime is missing: apt-get install faketime" >&2; exit 1; }

work=$(mktemp -d)
. "$here/stage.sh"

finish() {
  local status=$?
  trap - EXIT
  [ -z "$sandbox_pid" ] || kill "$sandbox_pid" 2>/dev/null || true
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "crashes.sh: failed; logs are in $work" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

people() { python3 "$here/people.py" "$@"; }

# Slow answers and small batches: most of the time some call is under way.
start_sandbox --seed "$seed" --answer-delay 400ms
cat "$work/reteno.toml" - >"$work/config.toml" <<'END'
batch_contacts_max = 400

[source.crm]
kind = "file"
path = "contacts.csv"

[source.crm.contact]
externalCustomerId = "id"
email = "email"
sms = "phone"
firstName = "name"
town = "town"
END
people make "$work/contacts.csv" "$contacts"
authorize
say "authorized; $contacts contacts, seed $seed"

died=0
for ((round = 1; round <= kills; round++)); do
  "$bin" --config "$work/config.toml" -v -v sync >>"$work/sync.out" 2>>"$work/sync.log" &
  pid=$!
  # The moment is the test: anywhere from the first page to the last acknowledgement.
  python3 -c "import random, time; time.sleep(random.Random($seed * 1000 + $round).uniform(0.1, 7))"
  if kill -9 "$pid" 2>/dev/null; then died=$((died + 1)); fi
  wait "$pid" 2>/dev/null || true
  people edit "$work/contacts.csv" 10 "$((seed * 1000 + round))"
done
say "killed $died of $kills runs"
[ "$died" -ge "$((kills / 2))" ] || fail "most runs ended before they were killed: nothing was tried"

status=0
timeout 600 "$bin" --config "$work/config.toml" sync --wait 9m >>"$work/sync.out" 2>>"$work/sync.log" || status=$?
say "a whole run ended with $status (75: what a lost call may still overwrite waits for its time)"
[ "$status" -eq 0 ] || [ "$status" -eq 75 ] || fail "a whole run ended with $status: $(tail -n 3 "$work/sync.log")"

status=0
LD_PRELOAD=$faketime FAKETIME='+7h' FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 \
  timeout 600 "$bin" --config "$work/config.toml" sync --wait 9m >>"$work/sync.out" 2>>"$work/sync.log" || status=$?
say "seven hours later a run ended with $status"
[ "$status" -eq 0 ] || fail "seven hours later a run ended with $status: $(tail -n 3 "$work/sync.log")"

save_contacts end
save_calls end
people compare "$work/contacts.csv" "$work/end.jsonl" "$work/end.json" || fail "the sandbox does not hold what the CRM says"
say "done"
