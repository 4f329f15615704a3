"""Asks the lab's supervisor over its control socket."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.front.wire import Answer
from orchestrator.lab import Lab

TIMEOUT_S = 10.0


def get(lab: Lab, path: str, *, timeout_s: float = TIMEOUT_S) -> tuple[int, Any]:
    """The status and the JSON of the answer. Raises OSError, ValueError."""
    answer = Answer(str(lab.run_dir), timeout_s)
    answer.get(path)
    status, body = answer.got()
    return status, json.loads(body)
