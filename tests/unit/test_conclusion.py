"""From the walks of `why` to the culprit, and what is told of it."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.diagnosis import report
from orchestrator.diagnosis.findings import Diagnosis, Finding, Verdict, Walk, conclude, path

NEEDS = {
    "service:edge": ["service:app", "veth:edge"],
    "service:app": ["job:migrate"],
    "job:migrate": ["service:db"],
    "service:db": ["veth:db"],
    "veth:db": ["bridge:br"],
    "veth:edge": ["bridge:br"],
}
ORDER = ("service:db", "job:migrate", "service:app", "service:edge")


def diagnosis(asked: str, *broken: Finding) -> Diagnosis:
    """Each finding on the walk of the service that it belongs to, or on all for the bridge."""
    walks = [
        Walk.of(
            name,
            [each for each in broken if each.node in (name, "bridge:br") or each.node[5:] in name],
        )
        for name in ORDER
    ]
    return conclude(asked, walks, NEEDS)


def bad(layer: str, node: str, verdict: Verdict = Verdict.BROKEN) -> Finding:
    return Finding(layer, node, verdict, "evidence")


def test_deepest_broken_walk_holds_the_culprit_and_consequences_are_left_out() -> None:
    database, edge = bad("listener", "service:db"), bad("http", "service:edge")
    found = diagnosis("service:edge", edge, database)
    assert found.culprit == database
    assert found.chain == ("service:edge", "service:app", "job:migrate", "service:db")
    assert found.others == ()
    assert found.shown_walk.node == "service:db"


def test_second_fault_that_the_first_does_not_explain_is_told_too() -> None:
    database, edge = bad("link", "veth:db"), bad("link", "veth:edge")
    found = diagnosis("", database, edge)
    assert (found.culprit, found.others) == (database, (edge,))
    assert found.chain[0] == "service:edge"


def test_first_layer_of_a_walk_counts_and_shared_parts_come_by_the_shortest_way() -> None:
    bridge = bad("bridge", "bridge:br")
    found = diagnosis("service:edge", bad("listener", "service:db"), bridge)
    assert found.culprit == bridge
    assert found.chain == ("service:edge", "veth:edge", "bridge:br")
    assert found.shown_walk.node == "service:edge"


def test_drift_is_the_culprit_only_where_nothing_is_broken() -> None:
    drift = bad("listener", "service:db", Verdict.DRIFT)
    broken = bad("listener", "service:edge")
    assert diagnosis("", drift).culprit == drift
    assert diagnosis("", drift, broken).culprit == broken
    assert diagnosis("", bad("link", "veth:db", Verdict.SKIPPED)).is_well


def test_path_is_the_shortest_and_empty_where_there_is_none() -> None:
    assert path("service:edge", "bridge:br", NEEDS) == ("service:edge", "veth:edge", "bridge:br")
    assert path("service:db", "service:edge", NEEDS) == ()
    assert path("x", "x", {}) == ("x",)


def test_report_names_layer_node_way_command_and_mend() -> None:
    culprit = replace(bad("listener", "service:db"), command="ss -ltn", details=("last words",))
    found = diagnosis("service:edge", culprit)
    text = "\n".join(line for _, line in report.lines(found))
    assert "first broken layer: listener of service:db: evidence" in text
    assert "way:  service:edge → service:app → job:migrate → service:db" in text
    assert "show: ss -ltn" in text
    assert "log:  last words" in text
    assert "mend: orchestrator replay" in text
    document = report.as_json(found)
    assert (document["well"], document["first_broken"]["layer"]) == (False, "listener")


def test_report_of_what_is_well_says_so() -> None:
    found = diagnosis("service:app", bad("http", "service:app", Verdict.OK))
    lines = [line for _, line in report.lines(found)]
    assert lines[0].startswith("ok    http  evidence")
    assert lines[-1].startswith("service:app is well, and so are its needs: service:db")
