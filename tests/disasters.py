"""What strikes the whole lab at once: a flood, a reboot, a lost directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from faults import under_supervision
from names import next_name
from rig import World, names_of_namespaces, run, sh

from orchestrator import linux

DISK = "200m"
FLOOD = 1500  # connections at once: more than nginx has places for
FLOODS = 3
ANSWER_S = 60.0


def flooded(shop: World, host: str, port: int) -> Counter[str]:
    """How often each status, or none, came; returns when the last flood is over."""
    found: Counter[str] = Counter()

    def act() -> None:
        namespace = os.open(f"/run/netns/{shop.host}", os.O_RDONLY)
        linux.setns(namespace)
        os.close(namespace)
        found.update(asyncio.run(_floods(host, port)))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    return found


async def _floods(host: str, port: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(FLOODS):
        found.update(await asyncio.gather(*(_bounded(host, port) for _ in range(FLOOD))))
    return found


async def _bounded(host: str, port: int) -> str:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await _one(host, port)
    except TimeoutError:
        return "hangs"
    except OSError:
        return "refused"


async def _one(host: str, port: int) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(
            b"GET /api/products HTTP/1.1\r\nHost: x\r\nCache-Control: no-cache\r\n"
            b"Connection: close\r\n\r\n"
        )
        return (await reader.read()).split(b" ")[1].decode()
    except (OSError, IndexError):
        return "closed"
    finally:
        writer.close()


def reboot(shop: World) -> None:
    """State on disk, nothing in the kernel, /run empty, and a journal of another boot."""
    found = shop.orchestrator("status", "--json").json()
    os.kill(found["supervisor"], signal.SIGKILL)
    for row in found["nodes"]:
        kind, _, name = row["node"].partition(":")
        if kind == "service":
            shop.kill(name)
    for name in names_of_namespaces():
        if name.startswith(f"{shop.host}."):
            run("ip", "netns", "delete", name).ok()
    shop.on_host("ip", "link", "delete", "br-app").ok()
    shop.on_host("iptables", "-t", "nat", "-F").ok()
    shop.on_host("iptables", "-F").ok()
    shop.on_host("sysctl", "-qw", "net.ipv4.ip_forward=0").ok()
    shutil.rmtree(shop.run_dir)
    sh(f"rm -rf /etc/netns/{shop.host}.*")
    journal = shop.state / f"shop@{shop.host}" / "journal.jsonl"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    journal.write_text(journal.read_text().replace(boot, "0" * 8 + boot[8:]))


def lose_run_directory(shop: World) -> None:
    shutil.rmtree(shop.run_dir / f"shop@{shop.host}")


def lose_state_directory(shop: World) -> None:
    state = shop.state / f"shop@{shop.host}"
    while state.exists() and run("rm", "-rf", state).code:
        pass  # PostgreSQL still writes into it


@contextlib.contextmanager
def small_disk_shop(directory: Path) -> Iterator[World]:
    """A supervised shop whose state directory is a small disk of its own."""
    directory.chmod(0o755)
    disk = directory / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", disk).ok()
    built = replace(World.build(next_name(), directory), state=disk / "state")
    try:
        with under_supervision(built):
            yield built
    finally:
        run("umount", "-l", disk)


def fill(shop: World) -> Path:
    """Not one byte is left; gives the file that takes it all."""
    ballast = shop.state.parent / "ballast"
    run("dd", "if=/dev/zero", f"of={ballast}", "bs=64k")
    run("sh", "-c", f"cat /dev/zero >> {ballast}")
    return ballast
