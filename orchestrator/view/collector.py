"""What the supervisor tells of the kernel's view."""

from __future__ import annotations

from orchestrator.exposition import Families
from orchestrator.view.families import FAMILIES, Figures


class KernelCollector:
    """Gives what was shown to it last; reads nothing itself, so a scrape cannot fail by it."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def show(self, figures: Figures) -> None:
        """From another thread too: the whole is replaced at once."""
        self._figures = figures

    def families(self) -> Families:
        figures = self._figures
        return [(family, figures.get(family, {})) for family in FAMILIES]
