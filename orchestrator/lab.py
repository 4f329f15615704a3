"""One lab: the stack's name, the host it lives on, and every name that follows from them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from orchestrator import glance

STATE_ROOT, RUN_ROOT = Path(glance.STATE_ROOT), Path(glance.RUN_ROOT)
CACHE_ROOT = Path(glance.CACHE_ROOT)
MARKS, CHAINS = "orchestrator:", "ORC-"  # what those of any lab begin with
LASTED = "lasted"  # below the one of what is prepared
IFNAMSIZ = 15  # linux/if.h: 16 bytes with the final zero


class Lab(NamedTuple):  # to load msgspec takes longer than all that `status` needs
    """A stack on a host. `host` names a network namespace, or is empty for the root one.

    Marks are derived from the name alone, so ownership survives the loss of all files.
    """

    stack: str
    host: str = ""
    state_root: Path = STATE_ROOT
    run_root: Path = RUN_ROOT
    cache_root: Path = CACHE_ROOT

    @property
    def name(self) -> str:
        return glance.lab_of(self.stack, self.host)

    @property
    def mark(self) -> str:
        """The readable mark: link alias, rule comment, process environment."""
        return f"{MARKS}{self.name}"

    @property
    def group(self) -> int:
        """The link group that every link of ours is created in (`ip link show group N`).

        A link's alias cannot be given at creation, its group can: no link of ours is ever
        without its mark, not even for an instant.
        """
        digest = hashlib.sha256(self.mark.encode()).digest()
        return 0x40000000 | int.from_bytes(digest[:4]) >> 2

    @property
    def chain_prefix(self) -> str:
        """`ORC-SHOP`; a digest keeps long or private names apart (a chain has 28 bytes)."""
        if self.host or len(self.stack) > 12:
            return CHAINS + hashlib.sha256(self.mark.encode()).hexdigest()[:10].upper()
        return CHAINS + self.stack.upper()

    def namespace(self, name: str) -> str:
        """The name in /run/netns: prefixed in a private lab, since that directory is shared."""
        return f"{self.host}.{name}" if self.host else name

    def mac(self, name: str) -> str:
        """A fixed, locally administered address, so that neighbours stay right after a rebuild.

        IEEE 802: bit 1 of the first octet marks a locally administered address.
        """
        digest = hashlib.sha256(f"{self.mark}/{name}".encode()).digest()
        return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))

    @property
    def state_dir(self) -> Path:
        """What outlives `down`: data, secrets, logs, journal."""
        return self.state_root / self.name

    @property
    def data_dir(self) -> Path:
        return self.state_dir / "data"

    @property
    def run_dir(self) -> Path:
        """What does not outlive a boot: rendered files, sockets, the lock."""
        return self.run_root / self.name

    @property
    def lock_file(self) -> Path:
        """Beside the run directory, which `down` takes away while it holds the lock."""
        return self.run_root / f".{self.name}.lock"

    @property
    def prepare_dir(self) -> Path:
        """Where what is prepared is made: apart from the run directory, which says that a lab is
        up, and known, so that what a killed one has left is found."""
        return self.run_root / f".{self.name}.prepare"

    def path_logs(self, service: str) -> Path:
        """Where a service logs its requests; of one boot, and in memory where /run is."""
        return self.run_dir / "path" / service

    @property
    def journal(self) -> Path:
        return self.state_dir / "journal.jsonl"

    @property
    def lasted(self) -> Path:
        """How long each node of the stack took when it was last made on this machine."""
        return self.cache_root / LASTED / f"{self.stack}.json"

    def log(self, name: str) -> Path:
        return self.state_dir / "logs" / f"{name}.log"
