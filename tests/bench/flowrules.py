"""Takes the rules of a lab away that let only declared flows pass, and puts them back.

Run on the lab's host, which must be a private one: `python -m bench.flowrules STACK HOST`. Takes
lines and repeats each when it is so: `on` or `off`, of all rules or of one kind (`off guard`).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from orchestrator.app import open_app
from orchestrator.policies import guard_of, rules_of


async def main(path: str, host: str) -> None:
    nowhere = Path("/nonexistent")  # rules are known by name, and leave nothing in files
    app = open_app(Path(path), host=host, state_root=nowhere, run_root=nowhere)
    policies = rules_of(app.stack, app.lab, nowhere)[1]
    rules = [guard_of(app.stack, app.lab, lambda _: None), *policies]
    for line in sys.stdin:
        verb, *kinds = line.split()
        for each in rules:
            if not kinds or each.name.partition(":")[0] in kinds:
                await (each.ensure() if verb == "on" else each.remove())
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
