"""Asks the lab's supervisor over its control socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any

from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.lab import Lab

TIMEOUT_S = 10.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, lab: Lab) -> None:
        super().__init__("lab", timeout=TIMEOUT_S)
        self._lab = lab

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        directory = os.open(self._lab.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # By descriptor, since an address holds no more than 107 bytes: unix(7).
            self.sock.connect(f"/proc/self/fd/{directory}/control.sock")
        finally:
            os.close(directory)


def ask(lab: Lab, path: str) -> Any:
    """The JSON that it answers to a GET.

    Raises UsageError for what it does not know, OrchestratorError if nobody answers.
    """
    connection = _Connection(lab)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise OrchestratorError(
            f"no supervisor of lab {lab.name} runs, and it is what measures\n"
            "  mend: `orchestrator up` starts one"
        ) from error
    except PermissionError as error:
        raise OrchestratorError(f"cannot ask the supervisor of lab {lab.name}: {error}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OrchestratorError(f"the supervisor of lab {lab.name} does not answer: {error}") from (
            error
        )
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise UsageError(document.get("detail", f"the supervisor says {answer.status}"))
    return document
