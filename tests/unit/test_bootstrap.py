"""bootstrap.sh is interrupted while it looks whether what it needs is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from rig import ROOT


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143)])
def test_interrupt_takes_nothing_away_and_installs_nothing(
    tmp_path: Path, name: str, code: int
) -> None:
    """The Python that it asks just then ends with 1, as one that does not work."""
    for each in ("bootstrap.sh", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / each, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\nkill -{name} $PPID\nexit 1\n")
    python.chmod(0o755)
    words = [str(tmp_path / "bootstrap.sh")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (code, "")
    assert python.exists()
