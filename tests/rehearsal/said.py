"""The rehearsal's findings as a person reads them: each stands in a golden file, made by the run of a real QEMU that a test of this room has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.tools import golden
from wizard.base.finding import Finding

GOLDEN = Path(__file__).parent / "golden/findings.txt"


def said(code: str, findings: Iterable[Finding]) -> None:
    """All findings of a run that have this code, held whole (tests/tools/golden.py)."""
    golden.same_section(GOLDEN, code, golden.findings_text(finding for finding in findings if finding.code == code))
