"""The command line that shuts a program in, for each level.

In: a Box, limits, the uid to run as, and the command inside. Out: a list of arguments. Sources: bwrap(1), unshare(1),
setpriv(1), pivot_root(8), and the options of bubblewrap by its release notes
(https://github.com/containers/bubblewrap/releases): --perms is from 0.5, --size from 0.7, --disable-userns from 0.8.

Who is root runs the program as a user of its own that owns nothing (`spare_uid`): for root the kernel counts no processes,
and a file that root may write stays writable. Everyone else gets a user namespace.
"""

from __future__ import annotations

import os
from pathlib import Path

from r1distill.sandbox.box import MIB, Box, Limits

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/nix/store")
"""What an interpreter and its C libraries may need; shown read-only where it exists."""
SYSTEM_FILES = ("/etc/ld.so.cache",)
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
}
"""All that a program finds in its environment. A fixed seed: what prints a set prints the same every time."""
NO_ZERO = ("--ro-bind", "/dev/null", "/dev/zero")
"""bwrap always makes a /dev/zero, which can be mapped shared; what is bound over it can't even be opened (nodev)."""
MOUNT_POINT = "/mnt"
"""Any folder that exists: the new root is mounted over it, in the new namespace only."""
MAX_FILES = 4096
"""Files and folders in the private /tmp: empty ones need memory too, which its size does not count."""
NEW_ROOT = """
set -eu
size=$1; shift
new=$1; shift
mount -t tmpfs -o mode=755,size=1m,nosuid,nodev tmpfs "$new"
cd "$new"
while [ "$1" != -- ]; do
  if [ -L "$1" ]; then ln -s "$(readlink "$1")" ".$1"
  else
    if [ -d "$1" ]; then mkdir -p ".$1"; else mkdir -p ".${1%/*}"; : > ".$1"; fi
    mount -o bind,ro "$1" ".$1"
  fi
  shift
done
shift
mkdir -p dev proc tmp
for name in null full random urandom; do : > dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t tmpfs -o mode=1777,size="$size",nr_inodes=MAX_FILES,nosuid,nodev tmpfs tmp
pivot_root . .
umount -l .
mount -o remount,bind,ro /
cd /tmp
"$@" || exit $?
""".replace("MAX_FILES", str(MAX_FILES))
"""The script that builds the root of the level "namespaces": size of /tmp, mount point, paths, --, command. It stays as the
first process, which no signal from inside can end; when it ends, all others do. There is no /dev/zero: who maps it shared holds
memory that no limit counts."""


def command(box: Box, limits: Limits, uid: int | None, inside: list[str]) -> list[str]:
    """The arguments that run `inside` shut in by `box`; as user `uid` where the caller is root (None: is not root)."""
    if box.level == "bubblewrap":
        return [*_bubblewrap(box, limits, uid), *_become(uid, drop=False), *inside]
    if box.level == "namespaces":
        return [*_namespaces(box, limits, uid), *_become(uid, drop=True), *inside]
    return [*_become(uid, drop=False), *inside]


def _bubblewrap(box: Box, limits: Limits, uid: int | None) -> list[str]:
    user = ["--unshare-user"] if uid is None else []
    if uid is None and "--disable-userns" in box.options:
        user.append("--disable-userns")
    namespaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    binds = [part for path in _parents(box) for part in ("--perms", "0755", "--dir", path)]
    binds += [part for path in _shown(box) for part in ("--ro-bind", path, path)]
    room = ["--perms", "1777", "--size", str(_room(limits)), "--tmpfs", "/tmp"]
    if "--size" not in box.options:
        room = ["--dir", "/tmp"]  # without a size it could fill the memory, so nothing can be written at all
    rights = ["--cap-drop", "ALL"]
    if uid is not None:  # to become that user; leaving root takes these rights away again
        rights += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [
        box.binary, *user, *namespaces, "--die-with-parent", "--new-session", "--hostname", "sandbox", *binds,
        "--proc", "/proc", "--dev", "/dev", *NO_ZERO, "--remount-ro", "/dev", *room, "--remount-ro", "/", "--chdir", "/tmp",
        *rights, "--",
    ]  # fmt: skip


def _namespaces(box: Box, limits: Limits, uid: int | None) -> list[str]:
    user = ["--user", "--map-root-user"] if uid is None else []
    script = ["/bin/sh", "-c", NEW_ROOT, "sandbox", str(_room(limits)), MOUNT_POINT, *_shown(box), "--"]
    kinds = ["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"]
    return [
        "setpriv", "--pdeathsig", "KILL", "--", box.binary, *user, *kinds, "--fork", "--kill-child=KILL", "--", *script,
    ]  # fmt: skip


def _become(uid: int | None, drop: bool) -> list[str]:
    """No new privileges, none of the old ones, and for root another user."""
    found = [] if uid is None else [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    if drop:
        found.append("--bounding-set=-all")
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", *found, "--"]


def _shown(box: Box) -> list[str]:
    """The paths that exist of those that are shown inside, outer ones first."""
    paths = [path for path in (*SYSTEM, *SYSTEM_FILES) if Path(path).exists()]
    if not any(Path(box.prefix).is_relative_to(path) for path in paths):
        paths.append(box.prefix)
    return paths


def _parents(box: Box) -> list[str]:
    """The folders above an interpreter of one's own, which bwrap would make readable for their owner only."""
    above = [str(path) for path in reversed(Path(box.prefix).parents) if path != Path("/")]
    return above if box.prefix in _shown(box) else []


def _room(limits: Limits) -> int:
    """Bytes of the private /tmp."""
    return 4 * limits.files_mb * MIB


def spare_uid() -> int | None:
    """A user id that nobody has, different for every process that asks; None for whoever is not root.

    Raises OSError where root may not become anyone else: a container with a single user.
    """
    if os.getuid() != 0:
        return None
    first, count = max(_uid_ranges(), key=lambda found: found[1])
    if count < 2000:
        raise OSError("root can't become another user here")
    room = min(count - 1000, 1_900_000_000)
    return first + room - os.getpid() % min(room // 2, 10_000_000)


def _uid_ranges() -> list[tuple[int, int]]:
    """(first, count) of the user ids of this user namespace, by user_namespaces(7)."""
    rows = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return [(int(first), int(count)) for first, _, count in rows]
