"""System calls that no service needs, as a filter that bubblewrap loads: seccomp(2).

libseccomp compiles the list. It is a list of what is denied: calls that reach past the sandbox
(mounts, namespaces, other processes, the kernel's own parts), not a profile of each program.
The kernel remembers which calls always pass (seccomp's action cache, since Linux 5.11), so that
the others cost a test of one bit.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache

from orchestrator.linux import in_memory

LIBRARY = "libseccomp.so.2"  # Debian: libseccomp2; apt itself needs it

ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # SCMP_ACT_* of seccomp.h
MASKED_EQUAL, EQUAL = 7, 4  # SCMP_CMP_*
UNKNOWN_CALL = -1  # __NR_SCMP_ERROR: this libseccomp has never heard of the name

DENIED = (
    *("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "mount_setattr"),
    *("fsopen", "fsconfig", "fsmount", "fspick"),
    *("unshare", "setns"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"),
    *("bpf", "perf_event_open", "userfaultfd"),
    *("keyctl", "add_key", "request_key"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module"),
    *("open_by_handle_at", "acct", "quotactl", "swapon", "swapoff", "reboot", "syslog"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "iopl", "ioperm"),
)
# "There is no such call" makes programs and libraries take the older way. clone3 keeps its
# flags in memory, where a filter cannot look; Docker answers the same.
ABSENT = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
# CLONE_NEW* of linux/sched.h: time, mount, cgroup, uts, ipc, user, pid, net.
NEW_NAMESPACES = (0x80, 1 << 17, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30)
# Families that reach past the network namespace: AF_ALG (the kernel's ciphers), AF_VSOCK (the
# hypervisor); numbers of linux/socket.h.
FAMILIES = (38, 40)


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@cache
def program() -> bytes:
    """The filter for this machine's architecture; empty where libseccomp is not installed."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return b""
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))
    try:
        for name in DENIED:
            _add(library, context, name, errno.EPERM)
        for name in ABSENT:
            _add(library, context, name, errno.ENOSYS)
        for flag in NEW_NAMESPACES:
            # clone's flags are its first argument everywhere but on s390.
            _add(library, context, "clone", errno.EPERM, _Comparison(0, MASKED_EQUAL, flag, flag))
        for family in FAMILIES:
            same = _Comparison(0, EQUAL, family, 0)
            _add(library, context, "socket", errno.EAFNOSUPPORT, same)
        return _exported(library, context)
    finally:
        library.seccomp_release(context)


def _add(
    library: ctypes.CDLL,
    context: ctypes.c_void_p,
    name: str,
    error: int,
    *only: _Comparison,
) -> None:
    """The call gives the error; with a comparison only where that holds."""
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number == UNKNOWN_CALL:
        return
    compared = (_Comparison * len(only))(*only)
    action = ctypes.c_uint32(ERRNO | error)
    code = library.seccomp_rule_add_array(context, action, number, len(only), compared)
    if code < 0:
        raise OSError(-code, f"seccomp: {name}: {os.strerror(-code)}")


def _exported(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    """As bwrap --seccomp reads it: struct sock_filter after struct sock_filter."""
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        code = library.seccomp_export_bpf(context, descriptor)
        if code < 0:
            raise OSError(-code, f"seccomp: {os.strerror(-code)}")
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def descriptor() -> int | None:
    """A file with the filter at its beginning, to be closed by the caller; None: no filter."""
    text = program()
    return in_memory("seccomp", text) if text else None
