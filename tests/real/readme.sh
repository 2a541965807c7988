#!/usr/bin/env bash
# The README followed literally by a new operator, in a machine of its own with a real systemd (box.sh): the commands are
# taken out of README.md and run as they stand there, against the built-in sandbox in the place of Reteno. Then what the
# README promises of the service: reloads, a missing secret, a backup and its restore, the stop.
#
# SYNC_BIN names the program, by default the debug build: it stands in for what `cargo build --release` makes. Ends with 77
# where there can be no such machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$(realpath "${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}")
[ -x "$bin" ] || { echo "readme.sh: $bin is missing: cargo build --locked" >&2; exit 1; }
if [ -z "${BOX:-}" ]; then
  export SYNC_BIN=$bin
  exec tests/real/box.sh "$PWD/tests/real/readme.sh"
fi

started=$SECONDS
say() { printf '%4d s  %s\n' "$((SECONDS - started))" "$*"; }
fail() {
  echo "readme.sh: $*" >&2
  x journalctl -u reteno-sync -u sandbox -o cat --no-pager -n 15 >&2 || true
  exit 1
}
x() { "$BOX" exec "$@"; }
# expect WHAT COMMAND...: the command ends with 0.
expect() {
  local what=$1
  shift
  "$@" >"$BOX_HOME/out" 2>&1 || fail "$what: ended with $?: $(tail -n 12 "$BOX_HOME/out")"
  say "ok: $what"
}
# refused WHAT CODE COMMAND...: the command ends with this code.
refused() {
  local what=$1 code=$2 status=0
  shift 2
  "$@" >"$BOX_HOME/out" 2>&1 || status=$?
  [ "$status" -eq "$code" ] || fail "$what: ended with $status, not $code: $(tail -n 12 "$BOX_HOME/out")"
  say "ok: $what"
}
# told TEXT: the last command's output holds it.
told() { grep -qF -- "$1" "$BOX_HOME/out" || fail "nothing says \"$1\": $(cat "$BOX_HOME/out")"; }
prop() { x systemctl show -P "$1" reteno-sync; }
# becomes PROPERTY PATTERN: within 20 s.
becomes() {
  local tries value
  for ((tries = 0; tries < 200; tries++)); do
    value=$(prop "$1")
    # shellcheck disable=SC2053 # a pattern is meant
    if [[ $value == $2 ]]; then return 0; fi
    sleep 0.1
  done
  fail "$1 is still $value, not $2"
}
# readme SECTION NUMBER: that fenced block of the section.
readme() {
  awk -v section="## $1" -v wanted="$2" '
    /^## / { inside = $0 == section; count = 0 }
    inside && /^```/ { open = !open; if (open) count++; next }
    inside && open && count == wanted' README.md | grep . || fail "README.md has no block $2 under \"$1\""
}
# The block as a script that stops at the first line that fails, as a person would.
follow() { readme "$1" "$2" | sed '1i set -euxo pipefail\ncd /srv/project' | x sh -c 'cat >/tmp/block'; }

# What is beside the README, with the program where cargo would put it. Where this machine has no sudo, its like.
x mkdir -p /srv/project/target/release /srv/crm
tar -c README.md config.example.toml systemd | x tar -x -C /srv/project --no-same-owner
"$BOX" push "$bin" /srv/project/target/release/reteno-sync
x chmod 755 /srv/project/target/release/reteno-sync
# what a person has who has installed nothing yet
x sh -c 'userdel reteno-sync 2>/dev/null; rm -rf /etc/reteno-sync /var/lib/reteno-sync; printf "#!/bin/sh\n" >/usr/local/bin/cargo
  chmod 755 /usr/local/bin/cargo
  command -v sudo >/dev/null || { printf "#!/bin/sh\nuser=\$2\nshift 2\nexec runuser -u \"\$user\" -- \"\$@\"\n" >/usr/local/bin/sudo; chmod 755 /usr/local/bin/sudo; }'
x systemd-run --quiet --unit sandbox /srv/project/target/release/reteno-sync sandbox

follow "Install by hand" 1
expect "Install by hand" x bash /tmp/block < <(echo sandbox-secret)
printf 'id,email,phone,first_name\n1,a@example.com,+380671112233,Olha\n2,b@example.com,,Ivan\n' | x sh -c 'cat >/srv/crm/contacts.csv'

# The README's example, with the sandbox in the place of Reteno.
configure() {
  {
    readme Configure 1 | sed -e 's#^client_id = .*#client_id = "sandbox-client"#' -e '/^\[reteno\]$/a\
api_url = "http://127.0.0.1:8499/api"\
authorize_url = "http://127.0.0.1:8499/uaa/oauth/authorize"\
token_url = "http://127.0.0.1:8499/uaa/oauth/token"'
    cat
  } | x sh -c 'cat >/etc/reteno-sync/config.toml'
}
configure </dev/null
as() { x sudo -u reteno-sync reteno-sync "$@"; }
expect "check" as check
grep -qx ok "$BOX_HOME/out" || fail "check says more of the README's example than ok: $(cat "$BOX_HOME/out")"
for command in plan sync baseline\ --yes --authorize; do
  # shellcheck disable=SC2086 # words are meant
  refused "$command as root" 1 x reteno-sync $command
  told "sudo -u reteno-sync"
done
[ "$(x find /var/lib/reteno-sync ! -user reteno-sync 2>/dev/null)" = '' ] || fail "root left something in the state"

# A person opens the address that is printed; the sandbox allows at once, and the browser is sent back.
follow "Authorize, once" 1
x bash /tmp/block >"$BOX_HOME/authorize" 2>&1 </dev/null &
talking=$!
for ((tries = 0; tries < 200; tries++)); do
  url=$(grep -o -m 1 'http://127.0.0.1:8499/uaa/oauth/authorize[^[:space:]]*' "$BOX_HOME/authorize") && break
  kill -0 "$talking" 2>/dev/null || break
  sleep 0.1
done
[ -n "$url" ] || fail "no address was printed: $(cat "$BOX_HOME/authorize")"
expect "the browser comes back" x curl --silent --show-error --fail --location "$url&auto=allow"
for ((tries = 0; tries < 200; tries++)); do
  if grep -q '^authorized' "$BOX_HOME/authorize"; then break; fi
  sleep 0.1
done
grep -q '^authorized' "$BOX_HOME/authorize" || fail "not authorized: $(cat "$BOX_HOME/authorize")"
say "ok: Authorize, once"

follow Run 1
expect "Run" x bash /tmp/block
told "acknowledged 2"
becomes ActiveState active
becomes StatusText "2 contacts: 2 acknowledged, 0 waiting*"
becomes SubState running
[ "$(x curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:8400/livez)" = 200 ] || fail "/livez"

# Reloads.
expect "reload" x systemctl reload reteno-sync
x sed -i 's/^sms = /smz = /' /etc/reteno-sync/config.toml
refused "reload of a bad file" 1 x systemctl reload reteno-sync
becomes StatusText "*configuration was not reloaded, the old one stays: *smz is not a known*"
[ "$(prop ActiveState)" = active ] || fail "the daemon ended"
x sed -i 's/^smz = /sms = /' /etc/reteno-sync/config.toml
expect "reload of the mended file" x systemctl reload reteno-sync
becomes StatusText "2 contacts: 2 acknowledged, 0 waiting, 0 held, 0 rejected"

# The secret in the configuration, in both places, and nowhere.
expect "stop" x systemctl stop reteno-sync
x mv /etc/reteno-sync/reteno_client_secret /etc/reteno-sync/aside
refused "start without a secret" 1 x systemctl start reteno-sync
[ "$(prop ExecMainStatus)" = 78 ] || fail "it ended with $(prop ExecMainStatus), not 78"
x journalctl -u reteno-sync -o cat -n 10 >"$BOX_HOME/out"
told "without a client secret"
x sed -i 's/^client_id = .*/&\nclient_secret = "sandbox-secret"/' /etc/reteno-sync/config.toml
expect "start with the secret in the configuration" x systemctl start reteno-sync
expect "reload with the secret in the configuration" x systemctl reload reteno-sync
x systemctl stop reteno-sync
x mv /etc/reteno-sync/aside /etc/reteno-sync/reteno_client_secret
expect "check of two secrets" as check
told "two secrets stop the start"
refused "start with two secrets" 1 x systemctl start reteno-sync
x sed -i '/^client_secret = /d' /etc/reteno-sync/config.toml
expect "start with the credential again" x systemctl start reteno-sync

# The backup, beside the running daemon; then a loss of the database.
follow "Back up and restore" 1
becomes StatusText "2 contacts: 2 acknowledged, 0 waiting, 0 held, 0 rejected"
expect "backup" x bash /tmp/block
[ "$(x sh -c 'sqlite3 /var/backups/reteno-sync/reteno-sync.db "SELECT count(*) FROM contact"')" = 2 ] || fail "the copy lacks contacts"
[ "$(x find /var/backups/reteno-sync ! -user reteno-sync)" = '' ] || fail "the copy is not the service's"
x sh -c 'echo 3,c@example.com,,Petro >>/srv/crm/contacts.csv'
x systemctl stop reteno-sync
expect "a cycle after the backup" as sync
x truncate -s 100 /var/lib/reteno-sync/reteno-sync.db
refused "start with a damaged database" 1 x systemctl start reteno-sync
follow "Back up and restore" 2
expect "restore" x bash /tmp/block
becomes ActiveState active
becomes StatusText "*the checkpoint is an older copy*"
expect "status" as status
told "is an older copy"

expect "stop at the end" x systemctl stop reteno-sync
[ "$(prop Result)" = success ] || fail "it stopped with $(prop Result)"
say "done"
