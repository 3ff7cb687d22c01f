"""What a program that was started here wrote, in short: its first cause with the next step, for whoever shows its words already."""

from __future__ import annotations

import io

from msgspec.structs import replace

from wizard.explain.report import explain
from wizard.rehearsal import report as rehearsal


def short(text: str) -> rehearsal.Explained | None:
    """None where nothing is known of it."""
    found = explain(io.BytesIO(text.encode("utf-8", "replace")))
    if found.first is None:
        return None
    one = found.messages[found.first]
    return rehearsal.Explained(one.text, one.means, tuple(rehearsal.Reason(cause.finding, cause.because, cause.fix) for cause in one.causes), one.fix)


def with_words_explained(report: rehearsal.Report) -> rehearsal.Report:
    """A rehearsal's report with what the words of its QEMU mean."""
    return replace(report, explained=short(report.words)) if report.words else report
