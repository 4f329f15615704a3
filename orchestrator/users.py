"""User ids of services: each its own, the same in every run, none with an account."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from orchestrator.lab import Lab

# Ids that systemd sets aside for users without an account (systemd.io/UIDS-GIDS, DynamicUser).
FIRST_UID, LAST_UID = 61184, 65519


def uids_of(lab: Lab, services: Iterable[str]) -> dict[str, int]:
    """One id per service: from its name, so that its data stays its own over runs."""
    taken: dict[int, str] = {}
    size = LAST_UID - FIRST_UID + 1
    for name in sorted(services):
        digest = sha256(f"{lab.name}/{name}".encode()).digest()
        uid = FIRST_UID + int.from_bytes(digest[:4]) % size
        while uid in taken:
            uid = FIRST_UID + (uid + 1 - FIRST_UID) % size
        taken[uid] = name
    return {name: uid for uid, name in taken.items()}
