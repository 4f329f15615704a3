"""Which of the lab's directories have no space left: the cause behind many other failures."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.lab import Lab

LOW_BYTES = 2_000_000  # PostgreSQL stops at less than a write-ahead segment, the journal later


def full_places(lab: Lab) -> list[str]:
    """One line for each directory whose file system is full, with what to do; often none."""
    found = []
    seen: set[int] = set()
    uses = {lab.state_dir: "data, logs and journal", lab.run_dir: "sockets and rendered files"}
    for path, use in uses.items():
        existing = filter(os.path.exists, (path, *path.parents))  # Path's raises for long names
        there = next(existing, Path("/"))
        device = there.stat().st_dev
        disk = os.statvfs(there)
        is_full = disk.f_bavail * disk.f_frsize < LOW_BYTES or _no_names(disk)
        if device not in seen and is_full and disk.f_blocks:  # procfs and the like have none
            what = "file names" if _no_names(disk) else "space"
            found.append(f"no {what} left in {path} ({use})\n  mend: make room there")
        seen.add(device)
    return found


def _no_names(disk: os.statvfs_result) -> bool:
    return disk.f_files > 0 and disk.f_favail == 0
