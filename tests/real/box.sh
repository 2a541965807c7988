#!/usr/bin/env bash
# box.sh COMMAND...
# Runs a command in a machine of its own with a real systemd as process 1: this machine's files with an empty layer over
# them, and namespaces for processes, mounts, network and names. What happens in it stays in it, and is gone with it; only
# loopback can be reached. None of this machine's own services run there. The command gets $BOX, for
# `"$BOX" exec COMMAND...` (as root in the box) and `"$BOX" push FILE PATH`.
#
# Ends with 77 where it cannot be had (no root, no namespaces, no cgroup 2), and says why. LIMIT: seconds, 300 by default.
# Needs root, unshare, nsenter, iproute2 and systemd's files (no running systemd).
set -euo pipefail

skip() {
  echo "box.sh: no box here: $*" >&2
  exit 77
}

# As root in the box; the exit code comes through.
inside() {
  nsenter --target "$(cat "$BOX_HOME/leader")" --all --root --wd env -i HOME=/root LANG=C.UTF-8 SYSTEMD_COLORS=0 SYSTEMD_PAGER= \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# Process 1 of the new namespaces, which becomes systemd.
boot() {
  local root=$BOX_HOME/root place unit device name major minor
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 tmpfs "$BOX_HOME/layer"
  mkdir "$BOX_HOME/layer/up" "$BOX_HOME/layer/work"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$BOX_HOME/layer/up,workdir=$BOX_HOME/layer/work" "$root"
  mount -t proc proc "$root/proc"
  # what would turn this machine's own knobs
  for place in sys irq bus fs sysrq-trigger; do
    [ ! -e "$root/proc/$place" ] || mount --bind "$root/proc/$place" "$root/proc/$place"
    [ ! -e "$root/proc/$place" ] || mount -o remount,bind,ro,nosuid,nodev,noexec "$root/proc/$place"
  done
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
  for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$device"
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
  done
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  ln -s fd/0 "$root/dev/stdin"
  ln -s fd/1 "$root/dev/stdout"
  ln -s fd/2 "$root/dev/stderr"
  for place in dev/shm tmp; do mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/$place"; done
  for place in run root home var/log etc/systemd/system; do mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/$place"; done
  # only what a service needs: journal, users, temporary files
  ln -s /usr/lib/systemd/system/basic.target "$root/etc/systemd/system/default.target"
  for unit in dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount systemd-sysctl.service systemd-modules-load.service systemd-udevd.service \
    systemd-journald-audit.socket systemd-random-seed.service systemd-remount-fs.service systemd-update-utmp.service \
    systemd-firstboot.service systemd-repart.service systemd-binfmt.service systemd-machine-id-commit.service \
    systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-timesyncd.service kmod-static-nodes.service \
    proc-sys-fs-binfmt_misc.automount systemd-journal-flush.service; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
  done
  rm -f "$root/etc/machine-id" "$root/etc/fstab"
  : >"$root/etc/machine-id"
  hostname box
  ip link set lo up
  mkdir -p "$root/.outside"
  cd "$root"
  pivot_root . .outside
  umount -l /.outside
  # containers leave this to their manager; credentials need it
  mount --make-rshared /
  exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb /lib/systemd/systemd --log-level=info --show-status=no
}

# The process that became systemd, once it has.
find_leader() {
  local child
  child=$(pgrep --parent "$1" || true)
  [ -n "$child" ] && [ "$(cat "/proc/$child/comm" 2>/dev/null)" = systemd ] && echo "$child" >"$BOX_HOME/leader"
}

end() {
  local status=$? tries
  trap - EXIT
  # everything that runs in the box is in this group, and nothing else is
  echo 1 >"$group/cgroup.kill" 2>/dev/null || true
  [ -z "${holder:-}" ] || wait "$holder" 2>/dev/null || true
  for ((tries = 0; tries < 50; tries++)); do
    if grep -q 'populated 0' "$group/cgroup.events"; then break; fi
    sleep 0.1
  done
  find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  rm -rf "$BOX_HOME"
  exit "$status"
}

case ${1:-} in
  boot) boot ;;
  exec) shift; inside "$@"; exit ;;
  push) inside sh -c 'cat >"$1"' sh "$3" <"$2"; exit ;;
esac

[ "$(id -u)" -eq 0 ] || skip "not root"
for tool in unshare nsenter pivot_root ip pgrep; do command -v "$tool" >/dev/null || skip "$tool is missing"; done
[ -x /lib/systemd/systemd ] || skip "systemd is not installed"
groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[ -n "$groups" ] || skip "no cgroup 2"
unshare --pid --fork --mount --uts --ipc --net --cgroup true 2>/dev/null || skip "namespaces are not allowed"
group=$groups/reteno-sync-box.$$
mkdir "$group" 2>/dev/null || skip "no cgroup can be made in $groups"

BOX_HOME=$(mktemp -d)
BOX=$(realpath "$0")
export BOX_HOME BOX
trap end EXIT
trap 'exit 130' INT TERM
mkdir "$BOX_HOME/layer" "$BOX_HOME/root"
# it enters the group first, so that the box's own tree of groups begins there
(
  echo "$BASHPID" >"$group/cgroup.procs"
  exec timeout -s KILL "${LIMIT:-300}" unshare --pid --fork --mount --uts --ipc --net --cgroup --kill-child=KILL "$BOX" boot
) >"$BOX_HOME/console" 2>&1 </dev/null &
holder=$!
for ((tries = 0; tries < 300; tries++)); do
  unshared=$(pgrep --parent "$holder" || true)
  if [ -n "$unshared" ] && find_leader "$unshared"; then break; fi
  kill -0 "$holder" 2>/dev/null || skip "it did not start: $(tail -n 3 "$BOX_HOME/console")"
  sleep 0.1
done
[ -s "$BOX_HOME/leader" ] || skip "it did not start: $(tail -n 3 "$BOX_HOME/console")"
for ((tries = 0; tries < 300; tries++)); do
  case $(inside systemctl is-system-running 2>/dev/null || true) in
    running | degraded) "$@"; exit ;;
  esac
  sleep 0.1
done
echo "box.sh: systemd did not come up in 30 s: $(tail -n 5 "$BOX_HOME/console")" >&2
exit 1
