"""A diagnosis as people read it, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import to_builtins

from orchestrator.diagnosis.findings import Diagnosis, Finding, Verdict, Walk

WORDS = {
    Verdict.OK: "ok",
    Verdict.BROKEN: "FAIL",
    Verdict.DRIFT: "drift",
    Verdict.SKIPPED: "-",
}
EVIDENCE_WIDTH = 62


def as_json(found: Diagnosis) -> dict[str, Any]:
    """Everything: the verdict, the culprit, the way to it, and all walks."""
    return {
        "asked": found.asked,
        "well": found.is_well,
        "first_broken": to_builtins(found.culprit) if found.culprit else None,
        "chain": list(found.chain),
        "also_broken": [to_builtins(each) for each in found.others],
        "walks": [to_builtins(walk) for walk in found.walks],
    }


def lines(
    found: Diagnosis, *, everything: bool = False, mend: str = ""
) -> Iterator[tuple[Verdict | None, str]]:
    """Lines with the verdict that each is about, for colours; None: plain. `mend` is what mends
    it whatever it is."""
    if everything:
        for walk in found.walks:
            yield None, f"{walk.node}:"
            yield from _rows(walk)
    elif found.culprit is not None or found.asked:
        walk = found.shown_walk
        if walk.node != found.asked:
            yield None, f"{walk.node}:"
        yield from _rows(walk)
    else:
        yield from _platform(found)
    yield from conclusion(found, mend)


def _rows(walk: Walk) -> Iterator[tuple[Verdict, str]]:
    """Each layer with its evidence; commands stand last, since they are long."""
    layers = max((len(each.layer) for each in walk.findings), default=0)
    seen = min(EVIDENCE_WIDTH, max((len(each.evidence) for each in walk.findings), default=0))
    for each in walk.findings:
        left = f"{WORDS[each.verdict]:5} {each.layer:{layers}}  {each.evidence:{seen}}"
        show = f"  $ {each.command}" if each.command else ""
        yield each.verdict, f"{left}{show}".rstrip()


def _platform(found: Diagnosis) -> Iterator[tuple[Verdict, str]]:
    """One line for each walk: how many layers, and the last that was asked."""
    width = max((len(walk.node) for walk in found.walks), default=0)
    for walk in found.walks:
        if walk.findings:
            last = walk.findings[-1]
            passed = sum(each.verdict is Verdict.OK for each in walk.findings)
            count = f"{passed:2} passed" if last.verdict is Verdict.OK else ""
            text = f"{WORDS[last.verdict]:5} {walk.node:{width}}  {count:9}  {last.evidence}"
            yield last.verdict, text.rstrip()


def conclusion(found: Diagnosis, mend: str = "") -> Iterator[tuple[Verdict | None, str]]:
    """What it comes to; lines as `lines` has them."""
    what = found.asked or "the platform"
    culprit = found.culprit
    if culprit is None:
        needs = [walk.node for walk in found.walks if walk.node != found.asked]
        more = f", and so are its needs: {', '.join(needs)}" if found.asked and needs else ""
        yield Verdict.OK, f"{what} is well{more}"
        return
    is_broken = culprit.verdict is Verdict.BROKEN
    yield None, ""
    head = "first broken layer" if is_broken else "a request passes, but not as wanted"
    yield culprit.verdict, f"{head}: {culprit.layer} of {culprit.node}: {culprit.evidence}"
    if len(found.chain) > 1:
        yield None, f"  way:  {' → '.join(found.chain)}"
    if culprit.command:
        yield None, f"  show: {culprit.command}"
    for text in culprit.details:
        yield None, f"  log:  {text}"
    yield None, f"  mend: {mend or culprit.mend or 'orchestrator replay'}"
    for other in found.others:
        yield other.verdict, f"also: {_brief(other)}"


def _brief(finding: Finding) -> str:
    return f"{finding.layer} of {finding.node}: {finding.evidence}"
