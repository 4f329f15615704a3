"""What is begun before its turn: only where a network has to be made."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from orchestrator import ahead, linux
from orchestrator.kernel.encoding import Encoder
from orchestrator.kernel.namespace import Namespace
from orchestrator.kernel.nat import Nat
from orchestrator.kernel.netlink import Netlink

if TYPE_CHECKING:
    from pathlib import Path


class Asked(Encoder):
    """Counts who has it begin."""

    def __init__(self) -> None:
        super().__init__("ORC-TEST", [])
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1


@pytest.fixture
def foreseen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    numbers: list[int] = []
    monkeypatch.setattr(linux, "NETNS_DIR", tmp_path)
    monkeypatch.setattr(ahead, "made_ahead", lambda n: numbers.append(n) or nullcontext())
    return numbers


def namespaces(count: int) -> list[Namespace]:
    return [
        Namespace(f"netns:n{number}", f"n{number}", "mark", 1, {}, Netlink())
        for number in range(count)
    ]


@pytest.mark.parametrize(("is_nft", "encoded"), [(True, 1), (False, 0)])
def test_what_is_missing_is_foreseen(
    foreseen: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_nft: bool, encoded: int
) -> None:
    monkeypatch.setattr(ahead, "is_nft", lambda: is_nft)
    (tmp_path / "n1").touch()
    encoder = Asked()
    rules = Nat("ORC-TEST", (), memory=tmp_path / "memory", encoder=encoder)
    with ahead.begun([rules, *namespaces(3)]):
        pass
    assert foreseen == [2]
    assert encoder.begun == encoded


def test_where_all_are_there_nothing_is(foreseen: list[int], tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"n{number}").touch()
    encoder = Asked()
    rules = Nat("ORC-TEST", (), memory=tmp_path / "memory", encoder=encoder)
    with ahead.begun([rules, *namespaces(3)]):
        pass
    assert foreseen == []
    assert encoder.begun == 0
