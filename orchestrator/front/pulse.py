"""Whether the lab's supervisor does its work: one that is stopped, or hangs, mends nothing."""

from __future__ import annotations

from typing import Any

from orchestrator import resident
from orchestrator.errors import HostError, OrchestratorError, UsageError
from orchestrator.front import client
from orchestrator.front.wire import OK
from orchestrator.lab import Lab
from orchestrator.processes import procfs

ANSWER_S = 1.0  # it takes a millisecond
STARTING_S = 10.0  # of a supervisor's life, in which it may not listen yet
MEND = "\n  mend: `orchestrator up` puts a new one in its place"


def ailment(lab: Lab) -> str:
    """What is wrong with the supervisor that is there; empty if nothing is, or if there is none."""
    if (present := resident.find(lab)) is None or not (what := _silence(lab, present.pid)):
        return ""
    return f"the supervisor, pid {present.pid}, {what}: nothing is mended"


def _silence(lab: Lab, pid: int) -> str:
    if procfs.is_stopped(pid):
        return "is stopped (state T)"
    try:
        client.get(lab, "/", timeout_s=ANSWER_S)  # that it does not know this is an answer too
    except (TimeoutError, BlockingIOError):  # its queue may be full already
        return f"has not answered for {ANSWER_S:g} s"
    except OSError:
        seen = procfs.stat(pid)
        is_young = seen is None or procfs.uptime_s(seen.start_ticks) < STARTING_S
        return "" if is_young else "does not listen"
    except ValueError:
        pass  # it ends this very moment
    return ""


def ask(lab: Lab, path: str) -> Any:
    """The JSON that it answers to a GET.

    Raises UsageError for what it does not know, HostError for who may not ask, OrchestratorError
    if nobody answers.
    """
    if what := ailment(lab):
        raise OrchestratorError(f"{what}{MEND}")
    try:
        status, document = client.get(lab, path)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise OrchestratorError(
            f"no supervisor of lab {lab.name} runs, and it is what measures\n"
            "  mend: `orchestrator up` starts one"
        ) from error
    except PermissionError as error:
        raise HostError("this needs root", mend="run it with sudo") from error
    except (OSError, ValueError) as error:
        raise OrchestratorError(
            f"the supervisor of lab {lab.name} does not answer: {error}{MEND}"
        ) from error
    if status != OK:
        raise UsageError(document.get("detail", f"the supervisor says {status}"))
    return document
