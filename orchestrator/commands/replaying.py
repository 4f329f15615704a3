"""What `replay` does: rebuild one layer or node, with its blast radius before and the proof after.

A supervisor that knows the stack does it: it has everything loaded, and has begun before this is.
Else we do it ourselves.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator import interrupts
from orchestrator.commands.target import Target
from orchestrator.commands.telling import say
from orchestrator.commands.watching import Finished, complain, watching
from orchestrator.errors import INTERRUPTED, OrchestratorError
from orchestrator.events import decode
from orchestrator.front.asking import let_interrupts_come
from orchestrator.front.wire import Answer
from orchestrator.hints import hinted
from orchestrator.replay import Proof
from orchestrator.sights.console import failure_report
from orchestrator.terminal import clean, counted

# The radius, and the result; None where nothing was to be done.
Done = tuple[dict[str, Any], dict[str, Any] | None]


def carry_out(
    target: Target,
    what: str,
    *,
    dry_run: bool,
    no_deps: bool,
    cascade: bool,
    as_json: bool,
    ask: Callable[[], Answer | None],
    begun_s: float | None = None,
) -> None:
    """Whoever can do it does it; exits with 1 if it failed or disturbed anything. `ask` gives who
    was told to: asking.replay."""
    begun = time.monotonic() if begun_s is None else begun_s
    finished, done = Finished(), None
    if answer := ask():
        try:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            interrupts.throw()
            let_interrupts_come()
            if lines := _posted(answer):
                done = _watch(_heard(lines), finished, dry_run=dry_run, as_json=as_json)
        except KeyboardInterrupt:
            say("interrupted: the supervisor goes on with it", err=True)
            sys.exit(INTERRUPTED)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    interrupts.end()
    if done is None:
        begun = time.monotonic()
        wishes = {"what": what, "cascade": cascade, "deps": not no_deps, "dry_run": dry_run}
        done = _by_ourselves(target, wishes, finished, as_json=as_json)
    found, result = done
    if result is not None:
        _report(found, result, finished, begun, as_json=as_json)
    elif not _touched(found):
        if not what:
            _refuse_if_unwell(target)
        if not as_json:
            say("nothing is broken" if dry_run else "nothing is broken, nothing was touched")


def _posted(answer: Answer) -> Iterator[str] | None:
    """Its answer, if it knows the stack as the file has it now. What it refuses, it is for us
    to refuse: the lab is busy, there is no such node."""
    try:
        return answer.posted()
    except (OSError, ValueError):
        return None


def _watch(heard: Iterator[str], finished: Finished, *, dry_run: bool, as_json: bool) -> Done:
    """The supervisor's replay as if it were ours. Raises OrchestratorError as it did."""
    layers, found = json.loads(next(heard)), json.loads(next(heard))
    _announce(found, as_json=as_json)
    if dry_run or not _touched(found):
        return found, None
    with watching(layers, as_json=as_json) as sights:
        while "event" in (told := json.loads(line := next(heard))) or "warning" in told:
            if "warning" in told:
                complain(told["warning"])
                continue
            record = decode(line)
            finished(record)
            for sight in sights:
                sight(record)
    if "error" in told:
        raise OrchestratorError(told["error"])
    return found, told


def _heard(lines: Iterator[str]) -> Iterator[str]:
    """Raises OrchestratorError where they end, and the reader wants more."""
    with contextlib.suppress(OSError, ValueError):
        yield from lines
    raise OrchestratorError(
        "the supervisor has gone in the middle of it\n  mend: `orchestrator replay` goes on"
    )


def _by_ourselves(
    target: Target, wishes: dict[str, Any], finished: Finished, *, as_json: bool
) -> Done:
    import asyncio

    from orchestrator.commands.running import run_to_end
    from orchestrator.lock import PATIENCE_S, lock
    from orchestrator.rebuild import blast_radius, rebuild, replayed

    app = target.enter()
    what, dry_run = wishes["what"], wishes["dry_run"]
    options = {"cascade": wishes["cascade"], "with_deps": wishes["deps"]}
    begun = time.monotonic()

    async def work() -> Done:
        held = lock(app.lab, "replay", patience_s=PATIENCE_S)
        async with contextlib.nullcontext() if dry_run else held:
            plan = await blast_radius(app, what, **options)
            found = plan.document(what, app.nodes)
            _announce(found, as_json=as_json)
            if dry_run or not _touched(found):
                return found, None
            layers = {name: app.layers[name] for name in plan.radius.everything}
            with watching(layers, as_json=as_json) as sights:
                result, proof = await rebuild(app, plan, [*sights, finished], complain=complain)
        return found, replayed(result, proof, time.monotonic() - begun)

    if dry_run:
        return asyncio.run(work())
    left = "what was taken away and not rebuilt is down; `orchestrator replay` goes on"
    return run_to_end(app, work(), left=left)


def _refuse_if_unwell(target: Target) -> None:
    """Nothing of ours is broken; but others may have put something in the way. Exits with 1 if
    a request does not pass, and says where it ends. Raises HostError, ResourceError."""
    import asyncio

    from orchestrator.diagnosis.examine import diagnose
    from orchestrator.diagnosis.report import conclusion

    found = asyncio.run(diagnose(target.enter()))
    if found.is_well:
        return
    say("nothing that `replay` could rebuild is broken, nothing was touched", err=True)
    for _, line in conclusion(found):
        say(clean(hinted(line)), err=True)
    sys.exit(1)


def _touched(found: dict[str, Any]) -> list[str]:
    nodes: list[str] = found["rebuilt"] + found["mended"]
    return nodes


def _announce(found: dict[str, Any], *, as_json: bool) -> None:
    """The blast radius."""
    if as_json:
        say(json.dumps(found))
        return
    words = {
        "rebuilt": "rebuilt",
        "mended": "mended, as far as it needs it",
        "felt": "left alone, asked again whether it is well",
    }
    for key, text in words.items():
        if names := found[key]:
            say(f"{text}: {', '.join(names)}")
    if pairs := found["connections_that_break"]:
        breaking = ", ".join(f"{count} of {name}" for name, count in sorted(pairs.items()))
        say(f"connections that break: {breaking}")
    elif _touched(found):
        say("connections that break: none")


def _report(
    found: dict[str, Any],
    result: dict[str, Any],
    finished: Finished,
    begun: float,
    *,
    as_json: bool,
) -> None:
    """What came of it; exits with 1 if it failed or disturbed anything."""
    failed, disturbed = result["failed"], tuple(result["disturbed"])
    seconds = time.monotonic() - begun
    if as_json:
        say(json.dumps(result))
    else:
        nodes = counted(len(_touched(found)), "node")
        if not failed:
            say(f"replayed {nodes} in {seconds:.2f} s")
        proof = Proof(result["nodes_outside"], result["connections_alive"], disturbed)
        say(proof.text())
    if failed:
        say(failure_report(finished.steps), err=True)
        text = f"not replayed ({seconds:.2f} s): {', '.join(failed)} failed; "
        say(hinted(f"{text}`orchestrator replay` goes on"), err=True)
    if disturbed or failed:
        sys.exit(1)
