"""What threads begin for a run before its turn has come, so that the loop finds it done."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from orchestrator.kernel.iptables import is_nft
from orchestrator.kernel.namespace import Namespace, made_ahead
from orchestrator.kernel.nat import Nat
from orchestrator.resource import Resource


def begun(resources: Iterable[Resource]) -> AbstractContextManager[None]:
    """For the block in which these are brought about. A namespace that is not there has to be made,
    and its rules to be encoded; where all are there nothing is foreseen."""
    known = list(resources)
    missing = sum(isinstance(each, Namespace) and not each.path.exists() for each in known)
    if not missing:
        return nullcontext()
    for each in known:
        if isinstance(each, Nat) and is_nft():
            each.encoder.begin()
    return made_ahead(missing)
