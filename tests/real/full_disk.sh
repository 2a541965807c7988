#!/usr/bin/env bash
# A full disk: the state directory is a small tmpfs, which is filled to its last byte while a daemon keeps the tokens of a
# CRM alive whose refresh tokens work once. Meanwhile tokens are renewed, the daemon is killed, and it is started anew; when
# there is room again everything goes on, and nobody has to authorize. Then the disk is mounted read-only: `status` and
# `explain` answer, and make no file.
#
# Needs root (for the mount), curl and python3. SYNC_BIN names the program, by default the debug build.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
[ -x "$bin" ] || { echo "full_disk.sh: $bin is missing: cargo build --locked" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || { echo "full_disk.sh: only root may mount" >&2; exit 1; }

work=$(mktemp -d)
. "$here/stage.sh"

crm_pid='' daemon_pid=''
finish() {
  local status=$?
  trap - EXIT
  for pid in $daemon_pid $crm_pid $sandbox_pid; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  umount "$work/state" 2>/dev/null || true
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "full_disk.sh: failed; logs are in $work" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir "$work/state"
mount -t tmpfs -o size=4m,mode=0700 tmpfs "$work/state"

start_sandbox --seed 1
port=$(free_port)
python3 "$here/full_disk.py" "$port" "$work/tokens.log" &
crm_pid=$!
wait_for "the CRM" curl --silent "http://127.0.0.1:$port/people"
cat "$work/reteno.toml" - >"$work/config.toml" <<END

[source.crm]
kind = "http"
base_url = "http://127.0.0.1:$port"
list = { path = "/people", records = "\$[*]" }
pagination = { kind = "none" }
schedule = "*/5 * * * * *"

[source.crm.contact]
externalCustomerId = "id"
email = "email"

[source.crm.auth]
kind = "oauth2"
authorize_url = "http://127.0.0.1:$port/oauth"
token_url = "http://127.0.0.1:$port/token"
client_id = "sync"
client_secret = "s3cret"
END
authorize
timeout 60 "$bin" --config "$work/config.toml" --authorize --source crm </dev/null >"$work/crm.out" 2>"$work/crm.log" || true
url=$(grep -o -m 1 "http://127.0.0.1:$port/oauth[^[:space:]]*" "$work/crm.out") || fail "no address was printed"
back=$(curl --silent --show-error --output /dev/null --write-out '%{redirect_url}' "$url")
timeout 60 "$bin" --config "$work/config.toml" --authorize --source crm --auth-response "$back" >>"$work/crm.log" 2>&1 ||
  fail "--auth-response failed: $(tail -n 3 "$work/crm.log")"

start_daemon() {
  "$bin" --config "$work/config.toml" -v run >>"$work/daemon.out" 2>>"$work/daemon.log" &
  daemon_pid=$!
}
given() { grep -c given "$work/tokens.log" || true; }
has_given() { [ "$(given)" -ge "$1" ]; }
fill() { cat /dev/zero >"$work/state/filler" 2>/dev/null || true; }
no_alert() { ! "$bin" --config "$work/config.toml" status --output json | grep -q tokens-crm; }

start_daemon
wait_for "two renewals" has_given 3
for round in 1 2; do
  fill
  before=$(given)
  say "the disk is full ($(df --output=avail "$work/state" | tail -n 1) left), $before tokens were given out"
  wait_for "three renewals on the full disk" has_given "$((before + 3))"
  kill -0 "$daemon_pid" || fail "the daemon has ended: $(tail -n 3 "$work/daemon.log")"
  kill -9 "$daemon_pid"
  wait "$daemon_pid" 2>/dev/null || true
  rm "$work/state/filler"
  before=$(given)
  start_daemon
  wait_for "a renewal after the restart" has_given "$((before + 2))"
  say "killed and started anew ($round of 2)"
done
grep -q 'kept beside' "$work/daemon.log" || fail "the disk was never too full for the database"
[ "$(grep -c refused "$work/tokens.log" || true)" -eq 0 ] || fail "a refresh token was used twice, or lost"
wait_for "no alert about the tokens" no_alert

# read-only, once as a crash leaves it and once as a clean end does
for how in KILL TERM; do
  kill "-$how" "$daemon_pid"
  wait "$daemon_pid" 2>/dev/null || true
  mount -o remount,ro "$work/state"
  before=$(ls -lA "$work/state")
  for command in "status" "explain 1 --offline"; do
    # shellcheck disable=SC2086
    if "$bin" --config "$work/config.toml" $command >"$work/look.out" 2>"$work/look.log"; then
      say "read-only after $how: $command"
    else
      fail "$command on a read-only disk: $(cat "$work/look.log")"
    fi
  done
  [ "$before" = "$(ls -lA "$work/state")" ] || fail "a look made a file"
  mount -o remount,rw "$work/state"
  start_daemon
  wait_for "a renewal" has_given "$(($(given) + 1))"
done
say "nobody had to authorize: $(given) tokens were given out, none was refused"
