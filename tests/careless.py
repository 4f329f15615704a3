"""`up`, with one word of one service's sandbox replaced: what an audit must notice."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path

from orchestrator.commands.target import Target
from orchestrator.processes.sandbox import Sandbox


def main() -> None:
    service, word, instead, host, state, run_dir, stack = sys.argv[1:]
    whole = Sandbox.words

    def careless(self: Sandbox, **descriptors: int) -> list[str]:
        words = whole(self, **descriptors)
        if self.hostname != service:
            return words
        old = shlex.split(word)
        at = next(n for n in range(len(words)) if words[n : n + len(old)] == old)
        return [*words[:at], *shlex.split(instead), *words[at + len(old) :]]

    Sandbox.words = careless  # type: ignore[method-assign, assignment]
    app = Target(Path(stack), host, Path(state), Path(run_dir)).enter(create=True)
    asyncio.run(app.up([], complain=sys.stderr.write))


if __name__ == "__main__":
    main()
