"""The command line that runs a program with nothing to steal: bubblewrap, then setpriv.

The program sees a read-only /usr and /etc, the stack's directory as /stack, its own data,
files and secrets, a private /tmp and /run, its own process table, and nothing of /home,
/root or other services. Pure: builds words, starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

STACK_DIR = "/stack"
SECRETS_DIR = "/run/secrets"  # as Docker Compose has it
NOTIFY_SOCKET = "/run/notify"
FIRST_PID = 2  # of the program in its process namespace; bubblewrap is 1
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr: file-hierarchy(7)

SYSTEM = ("/usr", "/etc", "/opt")  # the host's, read-only

# What setpriv needs to change its ids and empty the bounding set; gone before the program.
CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


@dataclass(frozen=True, slots=True)
class User:
    """Who the program runs as; `name` is what it sees in /etc/passwd."""

    uid: int
    gid: int
    name: str

    def passwd(self) -> str:
        """/etc/passwd as the program sees it: no account of the host but root's name."""
        nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        root = "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        if self.uid == 0:
            return root + nobody
        own = f"{self.name}:x:{self.uid}:{self.gid}::/tmp:/usr/sbin/nologin\n"
        return root + own + nobody

    def group(self) -> str:
        """/etc/group to go with it."""
        own = "" if self.gid == 0 else f"{self.name}:x:{self.gid}:\n"
        return f"root:x:0:\n{own}nogroup:x:65534:\n"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One program with everything that it may see and be."""

    command: tuple[str, ...]
    user: User
    hostname: str
    read_only: Mapping[str, Path] = field(default_factory=dict)  # path inside → path on the host
    writable: Mapping[str, Path] = field(default_factory=dict)
    own_network: bool = False  # an empty network namespace of its own: for offline jobs
    listener: int | None = None  # an inherited descriptor that the program gets as number 3
    nice: int = 0

    def words(self, *, info_fd: int) -> list[str]:
        """The whole command line. bwrap tells the pid of pid 1 on the descriptor."""
        words = ["bwrap", "--info-fd", str(info_fd)]
        words += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", self.hostname]
        if self.own_network:
            words.append("--unshare-net")
        for path in SYSTEM:
            words += ["--ro-bind-try", path, path]
        for name in MERGED:
            merged = Path("/", name)
            if merged.is_symlink():
                words += ["--symlink", str(merged.readlink()), str(merged)]
            elif merged.is_dir():
                words += ["--ro-bind", str(merged), str(merged)]
        words += ["--proc", "/proc", "--dev", "/dev"]
        for directory in ("/tmp", "/dev/shm", "/var/tmp"):
            words += ["--perms", "1777", "--tmpfs", directory]
        words += ["--tmpfs", "/run"]
        for directory in self._parents():
            words += ["--perms", "0755", "--dir", directory]
        for inside, outside in self.read_only.items():
            words += ["--ro-bind", str(outside), inside]
        for inside, outside in self.writable.items():
            words += ["--bind", str(outside), inside]
        words += ["--chdir", STACK_DIR, "--cap-drop", "ALL"]
        for capability in CAPABILITIES:
            words += ["--cap-add", capability]
        nice = ["nice", "-n", str(self.nice)] if self.nice else []
        return [*words, "--", *self._setpriv(), *nice, *self._as_three(), *self.command]

    def _as_three(self) -> list[str]:
        """A shell that gives the listener the number that sd_listen_fds(3) begins with."""
        if self.listener is None:
            return []
        return ["bash", "-c", f'exec "$@" 3<&{self.listener} {self.listener}<&-', "bash"]

    def _parents(self) -> list[str]:
        """Directories above what is mounted: bwrap would make them for root alone (0700)."""
        found: dict[str, None] = {}
        for inside in (*self.read_only, *self.writable):
            for parent in reversed(Path(inside).parents[:-1]):
                if not str(parent).startswith(SYSTEM):
                    found[str(parent)] = None
        return list(found)

    def _setpriv(self) -> list[str]:
        """setpriv(1): the user, no groups, no capabilities, none to be had by exec either."""
        return [
            "setpriv",
            f"--reuid={self.user.uid}",
            f"--regid={self.user.gid}",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--ambient-caps=-all",
            "--no-new-privs",
            "--",
        ]
