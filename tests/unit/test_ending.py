"""What a person is told of an error of the disk."""

from __future__ import annotations

import errno
import os

import pytest

from orchestrator.ending import code_of


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EROFS, "mount it for writing"),
        (errno.EIO, "see what `dmesg` says"),
    ],
)
def test_mend_fits_what_the_disk_says(
    number: int, mend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise OSError(number, os.strerror(number), "/there")

    assert code_of(work) == 1
    told = capsys.readouterr().err
    assert f"{os.strerror(number)}: /there" in told
    assert f"mend: {mend}" in told
