"""The stack that is up, as it was recorded: what it has more than the present one must go."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from orchestrator import known
from orchestrator.engine.plan import Node
from orchestrator.errors import SpecError
from orchestrator.lab import Lab
from orchestrator.replay import subgraph
from orchestrator.resource import is_absent
from orchestrator.stack import Compiler

FILE = "stack.yaml"  # in the lab's run directory


def record(lab: Lab, text: str) -> None:
    """Keeps the stack that is up: `down` takes that away, whatever became of the file."""
    lab.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = lab.run_dir / f"{FILE}.new"
    draft.write_text(text)
    draft.rename(lab.run_dir / FILE)


def orphans(
    compiler: Compiler, nodes: Mapping[str, Node], *, unless: str | None
) -> dict[str, Node]:
    """Nodes of the recorded stack that are not among these: it had more, or this host could run
    more of it. None if the record is the text `unless`."""
    path = compiler.lab.run_dir / FILE
    try:
        text = path.read_text()
        if text == unless:
            return {}
        stack = known.read(text, str(path), compiler.lab.cache_root).stack
        had = replace(compiler, stack=stack).nodes()
    except (OSError, UnicodeDecodeError, SpecError):
        return {}
    return subgraph(had, had.keys() - nodes.keys())


async def is_any_there(nodes: Mapping[str, Node]) -> bool:
    """Whether there is anything to take away; what a job has done for good does not count."""
    for name, node in nodes.items():
        if name.startswith("job:"):
            continue
        if not await is_absent(node.resource):
            return True
    return False
