"""The command line that runs a program with nothing to steal: bubblewrap, then setpriv.

The program sees a read-only /usr and /opt, an /etc with what every program needs, the stack's
directory as /stack, its own data, files and secrets, a private /tmp and /run, its own process
table, and nothing of /home, /root, /var or other services. Pure: builds words, starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct, field

from orchestrator.processes import etc

STACK_DIR = "/stack"
SECRETS_DIR = "/run/secrets"  # as Docker Compose has it
NOTIFY_SOCKET = "/run/notify"
FIRST_PID = 2  # of the program in its process namespace; bubblewrap is 1
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr: file-hierarchy(7)

PROGRAMS = ("/usr", "/opt")  # the host's, read-only

NOTHING: Mapping[str, int] = MappingProxyType({})

# What setpriv needs to change its ids and empty the bounding set; gone before the program.
CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


class User(Struct, frozen=True):
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


class Sandbox(Struct, frozen=True):
    """One program with everything that it may see and be."""

    command: tuple[str, ...]
    user: User
    hostname: str
    etc: Path  # on the host: etc.py has furnished it
    hosts: str = ""  # /etc/hosts as the program sees it
    read_only: Mapping[str, Path] = field(default_factory=dict)  # path inside → path on the host
    writable: Mapping[str, Path] = field(default_factory=dict)
    system: tuple[str, ...] = ()  # more of the host, read-only at the same path
    own_network: bool = False  # an empty network namespace of its own: for offline jobs
    listener: int | None = None  # an inherited descriptor that the program gets as number 3
    nice: int = 0  # added to that of whoever starts it, who sets it

    def texts(self) -> dict[str, str]:
        """Small files that all may read, by their path inside. They need be nowhere on the host:
        to make three files for each of a lab's programs takes longer than to hand over their
        content."""
        passwd, group = self.user.passwd(), self.user.group()
        return dict(zip(etc.OWN, (passwd, group, self.hosts), strict=True))

    def words(
        self,
        *,
        info_fd: int,
        block_fd: int | None = None,
        seccomp_fd: int | None = None,
        text_fds: Mapping[str, int] = NOTHING,
    ) -> list[str]:
        """The whole command line.

        bwrap tells the pid of pid 1 on the first descriptor, starts the program once the other
        end of the second is closed, and loads the filter of system calls from the third, and the
        texts from the others.
        """
        words = ["bwrap", "--info-fd", str(info_fd)]
        if block_fd is not None:
            words += ["--block-fd", str(block_fd)]
        if seccomp_fd is not None:
            words += ["--seccomp", str(seccomp_fd)]
        words += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        words += ["--hostname", self.hostname]
        if self.own_network:
            words.append("--unshare-net")
        for path in PROGRAMS:
            words += ["--ro-bind-try", path, path]
        words += ["--ro-bind", str(self.etc), etc.PLACE]
        for directory in _parents(self.system):
            words += ["--perms", "0755", "--dir", directory]
        for path in (*etc.BOUND, *self.system):
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
        for directory in _parents((*self.read_only, *self.writable)):
            words += ["--perms", "0755", "--dir", directory]
        for inside, outside in self.read_only.items():
            words += ["--ro-bind", str(outside), inside]
        for inside, descriptor in text_fds.items():
            words += ["--perms", "0444", "--ro-bind-data", str(descriptor), inside]
        for inside, outside in self.writable.items():
            words += ["--bind", str(outside), inside]
        words += ["--remount-ro", "/", "--chdir", STACK_DIR, "--cap-drop", "ALL"]
        for capability in CAPABILITIES:
            words += ["--cap-add", capability]
        return [*words, "--", *self._setpriv(), *self._as_three(), *self.command]

    def _as_three(self) -> list[str]:
        """A shell that gives the listener the number that sd_listen_fds(3) begins with."""
        if self.listener is None:
            return []
        return ["bash", "-c", f'exec "$@" 3<&{self.listener} {self.listener}<&-', "bash"]

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


def _parents(paths: Iterable[str]) -> list[str]:
    """Directories above what is mounted: bwrap would make them for root alone (0700)."""
    found: dict[str, None] = {}
    for path in paths:
        for parent in reversed(Path(path).parents[:-1]):
            if not any(map(parent.is_relative_to, (*PROGRAMS, etc.PLACE))):
                found[str(parent)] = None
    return list(found)
