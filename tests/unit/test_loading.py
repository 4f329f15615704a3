"""A service that is told to end while it loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from rig import ROOT

SLOW = """\
import os, time
os.write(1, b"it loads\\n")
time.sleep(600)
"""


def test_service_told_to_end_while_it_loads_ends(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    places = os.pathsep.join((str(ROOT / "services"), str(tmp_path)))
    process = subprocess.Popen(
        [sys.executable, "-P", ROOT / "services/shared/serve.py", "slow"],
        env={**os.environ, "PYTHONPATH": places, "HOST": "127.0.0.1", "PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert "it loads\n" in process.stdout
        process.terminate()
        assert process.wait(120) == 0  # a busy machine is waited for; the program would sleep on
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
