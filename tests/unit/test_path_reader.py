"""The log's reader: every line counts once, whoever reads and whenever it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.path import reader as module
from orchestrator.path.reader import Reader
from orchestrator.path.spans import own_traceparent

LINE = "1\t1000\t0\t0\t1100\t200\t-\t5c123360b01c38df27b051f6de928526\t/health\t-\n"


def make(log: Path, *, reopen: object = None, one_in: int = 1) -> Reader:
    def nothing() -> None:
        log.touch()

    return Reader(
        log,
        "edge",
        reopen=reopen or nothing,
        one_in=one_in,
        own=lambda _: None,  # type: ignore[arg-type]
    )


def count(reader: Reader) -> int:
    return sum(each.count for each in reader.totals.request.values())


def write(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_line_in_the_making_is_read_when_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "requests.tsv"
    reader = make(log)
    write(log, LINE + LINE[:20])
    assert reader.read() == 1
    write(log, LINE[20:])
    assert reader.read() == 1
    assert reader.totals.results["dropped",] == 0


def test_lines_that_are_only_counted_count_each(tmp_path: Path) -> None:
    log = tmp_path / "requests.tsv"
    counted = "\t200\t0.008\tgateway,,,/api/products\n"
    write(log, LINE + counted * 20 + "\t500\t0.001\t/x\n" + "\tnonsense\n" * 2 + counted[:-5])
    reader = make(log)
    reader.read()
    assert reader.totals.request["/api/products", "2xx"].count == 20
    assert reader.totals.request["other", "5xx"].count == 1
    assert reader.totals.results["dropped",] == 2
    write(log, counted[-5:])
    reader.read()
    assert reader.totals.request["/api/products", "2xx"].count == 21


def test_damaged_line_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    log = tmp_path / "requests.tsv"
    write(log, LINE + "nonsense\n\x00\xff\n" + LINE)
    reader = make(log)
    reader.read()
    assert count(reader) == 2
    assert reader.totals.results["dropped",] == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(["write", "read", "save", "kill"]), max_size=30))
def test_every_line_counts_once_wherever_the_reader_was_killed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    log = tmp_path_factory.mktemp("path") / "requests.tsv"
    log.touch()
    reader, written = make(log), 0
    for step in steps:
        match step:
            case "write":
                write(log, LINE * 3)
                written += 3
            case "read":
                reader.read()
            case "save":
                reader.save()
            case _:
                reader = make(log)  # as after kill -9: nothing of the old one is left
    reader.read()
    assert count(reader) == written


def test_log_is_put_aside_when_it_is_long_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATE_BYTES", 10 * len(LINE))
    log = tmp_path / "requests.tsv"
    late = tmp_path / "requests.tsv.1"
    written = 0

    def reopen() -> None:
        nonlocal written
        write(late, LINE)  # the writer's last line before it opens the new one
        written += 1
        log.touch()

    reader = make(log, reopen=reopen)
    for number in range(60):
        write(log, LINE)
        written += 1
        reader.read()
        if number % 7 == 0:
            reader = make(log, reopen=reopen)
    reader.read()
    assert written > 60
    assert count(reader) == written
    assert log.stat().st_size <= 11 * len(LINE)


@pytest.mark.parametrize("killed_in", ["unlink", "save", "rename", "reopen"])
def test_log_put_aside_by_a_reader_that_was_killed_is_not_written_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    """Wherever that was: nothing counts twice or is lost, and the writer gets a new log."""
    monkeypatch.setattr(module, "ROTATE_BYTES", 10 * len(LINE))
    log = tmp_path / "requests.tsv"
    (tmp_path / "requests.tsv.1").touch()
    asked = []

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    write(log, LINE * 10)
    with monkeypatch.context() as patch:
        reader = make(log, reopen=killed)
        reader.save()
        if killed_in == "save":
            patch.setattr(reader, "save", killed)
        elif killed_in != "reopen":
            patch.setattr(Path, killed_in, killed)
        with pytest.raises(KeyboardInterrupt):
            reader.read()

    def reopen() -> None:
        asked.append(True)
        log.touch()

    again = make(log, reopen=reopen)
    again.read()
    again.read()
    assert count(again) == 10
    assert asked == [True]
    write(log, LINE)
    again.read()
    assert count(again) == 11


def test_damaged_totals_mean_reading_all_again(tmp_path: Path) -> None:
    log = tmp_path / "requests.tsv"
    write(log, LINE * 5)
    reader = make(log)
    reader.read()
    reader.save()
    (tmp_path / "totals.json").write_text('{"offsets": 7}')
    again = make(log)
    again.read()
    assert count(again) == 5


def test_trace_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    log = tmp_path / "requests.tsv"
    write(log, LINE)
    reader = make(log)
    reader.read()
    found = reader.find("5c12")
    assert found is not None
    assert found[1].path == "/health"
    assert reader.find("6") is None


def test_trace_of_an_exemplar_is_found_however_many_came_after_it(tmp_path: Path) -> None:
    log = tmp_path / "requests.tsv"
    slow = LINE.replace("1100", "901100").replace("5c123360", "51000000")
    write(log, slow + LINE * (module.KEPT + module.KEPT_LAST))
    reader = make(log)
    reader.read()
    shown = [each for buckets in reader.totals.exemplars.values() for each in buckets.values()]
    assert {each.request.trace[:8] for each in shown} == {"51000000", "5c123360"}
    for each in shown:
        assert reader.find(each.request.trace) == (each.at_s, each.request)


def test_own_requests_never_take_the_place_of_a_users(tmp_path: Path) -> None:
    log = tmp_path / "requests.tsv"
    asked = LINE.replace("/health", "/api/products")
    own = "".join(
        asked.replace(LINE.split("\t")[7], own_traceparent()[0]) for _ in range(3 * module.KEPT)
    )
    write(log, asked + own + LINE.replace("5c123360", "51000000") * module.KEPT)
    reader = make(log, one_in=1_000_003)
    while reader.read():
        pass
    recent = [request for _, request in reader.traces.recent()]
    assert [request.path for request in recent if not request.is_own] == ["/api/products"]
    assert {request.path for request in recent if request.is_own} == {"/health"}
    assert len(recent) <= 1 + module.KEPT_OWN
    assert reader.totals.own == 3 * module.KEPT  # what watches the edge is counted nowhere
