"""`path` and `trace` on a terminal of 80 columns: every number can be read."""

from __future__ import annotations

import itertools
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from orchestrator.commands import path

HOPS = ("nginx-lb", "api-gateway", "product-service", "postgres-db")


def shown(found: RenderableType, width: int) -> str:
    console = Console(width=width, file=StringIO())
    console.print(found)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_numbers_of_a_waterfall_are_whole(width: int) -> None:
    spans = [
        {
            "hop": hop,
            "depth": depth,
            "start_ms": 100.25 + depth,
            "duration_ms": 900.5 - depth,
            "self_ms": 33.33 + depth,
            "result": "200",
        }
        for depth, hop in enumerate(HOPS)
    ]
    found: dict[str, Any] = {
        "id": "ab" * 16,
        "at": 0.0,
        "status": 200,
        "path": "/api/products",
        "total_ms": 1001.0,
        "is_partial": False,
        "spans": spans,
    }
    lines = shown(path._waterfall(found, width), width).splitlines()
    for span, line in zip(spans, lines[-len(spans) :], strict=True):
        for key in ("start_ms", "duration_ms", "self_ms"):
            assert f" {span[key]:.2f} " in line
        assert "█" in line


@pytest.mark.parametrize("width", [80, 100, 200])
def test_numbers_of_the_path_are_whole(width: int) -> None:
    hops = [
        {
            "name": hop,
            "rate_rps": 1234.5,
            "self_ms": {"mean": 1.25, "p50": 2.5, "p95": 103.75, "p99": 204.25},
            "per_request_ms": 55.5 + number,
            "error_ratio": 0.125,
        }
        for number, hop in enumerate(HOPS)
    ]
    ways = [
        {
            "client": client,
            "server": server,
            "rate_rps": 1234.5,
            "transit_ms": {"there": 100.25, "back": 200.75, "p95": 300.5},
            "error_ratio": 0.0,
        }
        for client, server in itertools.pairwise(HOPS)
    ]
    document: dict[str, Any] = {
        "request": {
            "rate_rps": 1234.5,
            "own_rps": 1.0,
            "mean_ms": 1.5,
            "p50_ms": 1.5,
            "p95_ms": 100.5,
            "p99_ms": 200.5,
            "error_ratio": 0.01,
        },
        "hops": hops,
        "edges": ways,
        "slowest": HOPS[0],
        "resolution_s": 1e-6,
    }
    text = shown(path._map(document, width), width)
    for number, hop in enumerate(HOPS):
        [line] = [
            each for each in text.splitlines() if each.startswith(f" {hop} ") and "→" not in each
        ]
        assert line.split()[1:4] == ["1234.5", "1.25", "103.75" if width == 80 else "2.50"]
        assert f" {55.5 + number:.2f} " in line
        assert " 12.5% " in line
    assert text.count(" 100.25 ") == text.count(" 200.75 ") == len(ways)
    assert ("p99 ms" in text) == (width >= 100)


def test_first_request_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [{"request": None}, {"request": None}, {"request": {"rate_rps": 1.0}}]
    pauses: list[float] = []
    monkeypatch.setattr(path, "ask", lambda *_: answers.pop(0))
    monkeypatch.setattr(path, "time", SimpleNamespace(sleep=pauses.append, monotonic=lambda: 0.0))
    assert path._first(SimpleNamespace(lab=None)) == {"request": {"rate_rps": 1.0}}
    assert len(pauses) == 2


def test_path_without_a_request_says_how_to_make_one() -> None:
    port = SimpleNamespace(host=8080)
    stack = SimpleNamespace(
        supervision=SimpleNamespace(probe=None), services={"a": SimpleNamespace(ports=[port])}
    )
    app = SimpleNamespace(stack=stack, lab=SimpleNamespace(host="lab"))
    assert str(path._nothing(app)).endswith(": ip netns exec lab curl http://localhost:8080/")
