"""A command run within the process of the tests."""

from __future__ import annotations

import pytest

from wizard.cli.main import main

Output = pytest.CaptureFixture[str]


def said(capsys: Output, *words: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of one command."""
    capsys.readouterr()
    status = main(words)
    done = capsys.readouterr()
    return status, done.out, done.err
