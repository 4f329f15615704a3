"""The shell completes commands, options and choices, through the installed program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.commandtable import COMMANDS

PROGRAM_DIR = Path(sys.executable).parent
# What bash does when TAB is pressed: words and the index of the one under the cursor are set.
PRESS_TAB = """
eval "$(orchestrator completion bash)"
read -ra COMP_WORDS <<<"$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_orchestrator_completion orchestrator
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("orchestrator v", ["validate", "verify"]),
        ("orchestrator verify --o", ["--outside"]),
        ("orchestrator completion ", ["bash", "zsh", "fish"]),
        ("orchestrator --de", ["--debug"]),
        ("orchestrator replay ga", ["gateway"]),
        ("orchestrator replay prod", ["product-service"]),
        ("orchestrator replay veth:red", ["veth:redis-cache"]),
        ("orchestrator why --all job:", ["job:migrate", "job:postgres-init"]),
        ("orchestrator exec pro", ["product-service", "prometheus"]),
        ("orchestrator shell ng", ["nginx-exporter", "nginx-lb"]),
        ("orchestrator logs nginx-lb api", ["api-gateway"]),
        ("orchestrator replay --stack /dev/null ga", [""]),
        ("orchestrator nothing-of-that-name", [""]),
    ],
)
def test_bash_completes(words: str, wanted: list[str]) -> None:
    done = subprocess.run(
        ["bash", "--norc", "-c", PRESS_TAB, "bash", words],
        env={**os.environ, "PATH": f"{PROGRAM_DIR}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.removesuffix("\n").split("\n"), done.stderr) == (wanted, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_asks_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    monkeypatch.setattr("sys.argv", ["orchestrator", "completion", shell])
    main()
    assert f"_ORCHESTRATOR_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_completion_of_names_imports_no_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "vanish", ("no_such_module", "would fail if it were imported"))
    monkeypatch.setattr("sys.argv", ["python -m orchestrator"])
    monkeypatch.setenv("_ORCHESTRATOR_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "orchestrator van")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out == "plain,vanish\n"
