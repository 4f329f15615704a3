"""Takes the rules of a lab away that let only declared flows pass, or puts them back.

Run on the lab's host, which must be a private one: `python -m bench.flowrules on|off STACK HOST`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from orchestrator.app import open_app
from orchestrator.policies import guard_of, policies_of


async def main(verb: str, path: str, host: str) -> None:
    nowhere = Path("/nonexistent")  # rules are known by name, and leave nothing in files
    app = open_app(Path(path), host=host, state_root=nowhere, run_root=nowhere)
    for each in (guard_of(app.stack, app.lab, lambda _: None), *policies_of(app.stack, app.lab)):
        await (each.ensure() if verb == "on" else each.remove())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
