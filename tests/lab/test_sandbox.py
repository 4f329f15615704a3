"""What a program cannot do from inside its sandbox: it tries, and tells."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rig import eventually, run

from orchestrator.processes.child import OPEN_FILES

if TYPE_CHECKING:
    from rig import Done, World

Write = Callable[..., Path]

STACK = """
name: thief
networks: {br-thief: {address: 10.0.0.1/24}}
secrets: [own, other]
services:
  victim:
    networks: {br-thief: 10.0.0.10}
    command: [sh, -c, "exec sleep 1000"]
    secrets: [other]
    data: [/data]
  thief:
    networks: {br-thief: 10.0.0.20}
    secrets: [own]
    data: [/data]
jobs:
  steal:
    of: thief
    command: [python, /stack/thief.py]
    needs: [victim]
    limits: {memory: 64M, tasks: 20}
"""

THIEF = '''
import ctypes, errno, json, os, pathlib, resource, signal, socket, threading

libc = ctypes.CDLL(None, use_errno=True)
CLONE = 56 if os.uname().machine == "x86_64" else 220

def call(name, *args):
    return 0 if getattr(libc, name)(*args) >= 0 else ctypes.get_errno()

def attempt(work):
    try:
        work()
    except OSError as error:
        return error.errno
    return 0

def threads():
    stop, made = threading.Event(), 0
    try:
        for made in range(1000):
            threading.Thread(target=stop.wait, daemon=True).start()
    except RuntimeError:
        pass
    stop.set()
    return made

def devour():
    """How a child ends that takes more memory than the limit."""
    child = os.fork()
    if child == 0:
        try:
            kept = bytearray(256 << 20)
        except MemoryError:
            os._exit(12)
        os._exit(len(kept) and 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

print(json.dumps({
    "processes": sorted(int(each) for each in os.listdir("/proc") if each.isdigit())[-1],
    "environment": sorted(os.environ),
    "secrets": os.listdir("/run/secrets"),
    "host": [each for each in ("/etc/shadow", "/etc/ssh", "/etc/systemd", "/etc/fstab", "/home",
        "/sys", "/boot", "/var/lib", "/var/log", "/run/orchestrator",
        os.path.join("/proc/1", "root", "etc/shadow"))
        if os.path.exists(each)],
    "writable": [str(top) for top in ("/", "/usr", "/etc", "/stack", "/data", "/tmp", "/run",
        "/run/secrets") if os.access(top, os.W_OK)],
    "write": attempt(lambda: pathlib.Path("/stack/x").write_text("x")),
    "unshare": call("unshare", 0x10000000),
    "clone": call("syscall", CLONE, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
    "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "ptrace": call("ptrace", 16, 1, 0, 0),
    "setuid": call("setuid", 0),
    "vsock": attempt(lambda: socket.socket(40, socket.SOCK_STREAM)),
    "packet": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "devour": devour(),
    "threads": threads(),
}))
'''
EPERM, ENOMEM, EAFNOSUPPORT, EROFS, SIGKILL = 1, 12, 97, 30, 9
# A command in a mount namespace that has no control groups; what else is mounted stays shared.
NO_GROUPS = """
mount --make-rprivate /sys/fs/cgroup
umount --recursive --lazy /sys/fs/cgroup
exec "$@"
"""
UNSHARE = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", NO_GROUPS, "-")


def test_program_in_its_sandbox_finds_nothing_to_steal_or_break(
    world: World, write_stack: Write
) -> None:
    write_stack(THIEF, "thief.py")
    stack = write_stack(STACK)
    world.orchestrator("up", stack=stack).ok()
    line = world.orchestrator("logs", "steal", stack=stack).ok().out.partition("| ")[2]
    found = json.loads(line)

    assert found["processes"] <= 3  # bubblewrap, and itself
    assert not [name for name in found["environment"] if "SECRET" in name or "PASSWORD" in name]
    assert found["secrets"] == ["own"]
    assert found["host"] == []
    assert found["writable"] == ["/data", "/tmp"]
    assert found["write"] == EROFS
    for what in ("unshare", "clone", "mount", "ptrace", "setuid", "packet"):
        assert found[what] == EPERM, what
    assert found["vsock"] == EAFNOSUPPORT
    assert found["threads"] < 20
    assert found["devour"] == -SIGKILL
    most = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert found["files"] == [most, most]


def test_number_of_open_files_does_not_hang_on_who_starts_it(
    world: World, write_stack: Write
) -> None:
    """A person's shell has few."""
    stack = write_stack(STACK.partition("jobs:")[0])
    few = ("bash", "-ec", 'ulimit -S -n 256; exec "$@"', "-")
    run(*few, *world.words("up", stack=stack)).ok()
    eventually(lambda: len(world.sandbox_pids("victim")) == 3)
    files = Path(f"/proc/{max(world.sandbox_pids('victim'))}/limits")

    most = str(min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    assert re.findall(r"Max open files +(\d+) +(\d+)", files.read_text()) == [(most, most)]


def test_limits_are_put_back_under_a_running_program(world: World, write_stack: Write) -> None:
    stack = write_stack(STACK.partition("jobs:")[0])
    world.orchestrator("up", stack=stack).ok()
    groups = Path("/sys/fs/cgroup")
    [group] = groups.glob(f"**/orchestrator/thief@{world.host}/service:victim/pids.max")
    # bubblewrap outside and inside, and the program, for whose start `up` need not wait.
    eventually(lambda: len(world.sandbox_pids("victim")) == 3)
    pids = world.sandbox_pids("victim")
    group.write_text("max")
    assert world.node_states(stack=stack)["service:victim"] == "drifted"

    world.orchestrator("up", stack=stack).ok()

    assert group.read_text() == "512\n"
    assert world.sandbox_pids("victim") == pids
    world.orchestrator("down", stack=stack).ok()
    assert not list(groups.glob(f"**/orchestrator/thief@{world.host}"))


def test_host_without_control_groups_limits_by_prlimit(world: World, write_stack: Write) -> None:
    write_stack(THIEF, "thief.py")
    stack = write_stack(STACK)
    groups = sorted(Path("/sys/fs/cgroup").glob("*"))

    def there(*words: str) -> Done:
        return run(*UNSHARE, *world.words(*words, stack=stack))

    there("up").ok()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/orchestrator/thief@{world.host}"))
    line = there("logs", "steal").ok().out.partition("| ")[2]
    found = json.loads(line)
    assert found["devour"] == ENOMEM
    assert found["threads"] < 20

    findings = there("audit", "--json", "--debug").ok().json()["findings"]
    limited = [each for each in findings if each["check"] == "2.11"]
    assert [each["verdict"] for each in limited] == ["pass"] * len(limited)
    assert "prlimit" in limited[0]["evidence"]
    states = {row["node"]: row["state"] for row in there("status", "--json").ok().json()["nodes"]}
    assert states["service:victim"] == "ready"
    assert "no control group" in there("doctor").text
    there("down").ok()
    assert world.sandboxes() == []
    assert sorted(Path("/sys/fs/cgroup").glob("*")) == groups


def test_etc_holds_what_is_looked_up_and_what_the_stack_puts_there(
    world: World, write_stack: Write
) -> None:
    write_stack("for {{ environment.WHO }}\n", "shop.conf")
    stack = write_stack("""
name: looker
networks: {br-look: {address: 10.0.0.1/24}}
services:
  other:
    networks: {br-look: 10.0.0.10}
    command: [sleep, "1000"]
  looker:
    networks: {br-look: 10.0.0.20}
    command: [sleep, "1000"]
    environment: {WHO: looker}
    host_files: [/etc/debian_version, /etc/dpkg, /etc/not/there]
    files: {/etc/shop/shop.conf: {template: shop.conf}}
    data: [/etc/shop/data]
jobs:
  look:
    of: looker
    environment: {WHO: looker}
    host_files: [/etc/debian_version, /etc/dpkg]
    files: {/etc/shop/shop.conf: {template: shop.conf}}
    command: [sh, -c, "cat /etc/shop/shop.conf /etc/debian_version && ls /etc/dpkg
      && ls -d /etc/shop/data && getent hosts other && id -un && ls -d /etc/ssl/certs
      && ! echo x >/etc/x"]
""")
    world.orchestrator("up", stack=stack).ok()
    told = world.orchestrator("logs", "look", stack=stack).ok().out
    lines = [line.partition("| ")[2] for line in told.splitlines()]
    files = ["for looker", *Path("/etc/debian_version").read_text().splitlines()]
    files += [*sorted(each.name for each in Path("/etc/dpkg").iterdir()), "/etc/shop/data"]
    assert lines[:-1] == [*files, "10.0.0.10       other", "looker", "/etc/ssl/certs"]
    assert "Read-only file system" in lines[-1]
