"""A fault while another is being healed. In a lab of its own: a service that has just been healed
from each fault of the matrix is close to being given up."""

from __future__ import annotations

import pytest
from faults import DOUBLE, recovery_s, serves, whole
from rig import World, eventually


@pytest.mark.parametrize("fault", DOUBLE)
def test_fault_during_a_healing_is_healed(supervised: World, fault: str) -> None:
    eventually(lambda: whole(supervised) and serves(supervised), within_s=60)
    recovery_s(supervised, DOUBLE[fault])
