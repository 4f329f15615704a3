"""Names that the shell completes, from the stack file: neither root nor a running lab is needed."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from orchestrator import glance
from orchestrator.errors import OrchestratorError

KINDS = ("service:", "job:")  # whose nodes need no kind before their name
LAYERS, NODES, SERVICES = "layers", "nodes", "services"


class Named(StringParamType):
    """A name as it is given; completed from those of these sorts."""

    def __init__(self, *sorts: str) -> None:
        self._sorts = sorts

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        try:
            known = _known(ctx.params.get("stack"), self._sorts)
        except (OrchestratorError, OSError, ValueError):
            return []  # the command itself says what is wrong with the file
        return [CompletionItem(name) for name in sorted(known) if name.startswith(incomplete)]


def _known(stack: Path | None, sorts: tuple[str, ...]) -> set[str]:
    """Raises OrchestratorError, OSError."""
    from orchestrator.app import open_app
    from orchestrator.lab import RUN_ROOT, STATE_ROOT

    file = Path(glance.stack_file(str(stack) if stack else None))
    app = open_app(file, host="", state_root=STATE_ROOT, run_root=RUN_ROOT)
    found: set[str] = set()
    if SERVICES in sorts:
        found |= app.stack.services.keys()
    if LAYERS in sorts:
        found |= set(app.layers.values())
    if NODES in sorts:
        found |= app.nodes.keys()
        found |= {n.partition(":")[2] for n in app.nodes if n.startswith(KINDS)}
    return found
