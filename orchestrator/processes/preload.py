"""A sight that loads the probes' libraries while the first programs of a run start."""

from __future__ import annotations

import threading
from collections.abc import Collection

from orchestrator.events import Action, Record, StepStarted
from orchestrator.processes.probes import load


class Preload:
    """Begins when a program is started: it will be asked soon. A run that starts none, and so
    most commands, loads nothing."""

    def __init__(self, kinds: Collection[str]) -> None:
        self._kinds = kinds
        self._begun = False

    def __call__(self, record: Record) -> None:
        event = record.event
        if self._begun or not isinstance(event, StepStarted) or event.action is not Action.ENSURE:
            return
        if event.node.startswith(("service:", "job:")):
            self._begun = True
            threading.Thread(target=load, args=(self._kinds,), name="preload").start()
