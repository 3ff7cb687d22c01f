"""A rehearsal's report for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wizard.base.text import plural, visible
from wizard.rehearsal.report import Check, Explained, Report

PARTS = {
    "topology": "Topology, asked for by QMP:",
    "dma": "Writes of each function through QEMU's SMMUv3, held against the simulated one:",
    "reads": "Reads:",
}
"""The parts of a report in their order, with their headings."""


def lines(report: Report, findings: Iterable[str]) -> list[str]:
    """A report for people: what was asked, what differed and whether that is known of QEMU, what stood in for what, what was left out."""
    passed = sum(check.ok for check in report.checks)
    version = f" {report.version}" if report.version else ""
    found = [f"{visible(report.vm)} in QEMU{version} ({visible(report.qemu)}): {passed} of {plural(len(report.checks), 'check')} as planned."]
    for part, title in PARTS.items():
        checks = [check for check in report.checks if check.part == part]
        if checks:
            found += [title, *(visible(f"  {check_line(check)}") for check in checks)]
    found += findings
    if report.explained is not None:
        found += _meaning(report.explained)
    found += [visible(f"  left out: {text}") for text in report.left_out]
    found += [visible(f"  note: {note}") for note in report.notes]
    return found


def _meaning(words: Explained) -> Iterator[str]:
    yield visible(f"  QEMU's words: {words.message}")
    yield f"    means: {visible(words.means)}"
    for reason in words.reasons:
        code = f" [{reason.finding}]" if reason.finding else ""
        yield f"    may be{code}: {visible(reason.because)}"
        yield f"      fix: {visible(reason.fix)}"
    if words.fix:
        yield f"    fix: {visible(words.fix)}"


def check_line(check: Check) -> str:
    """One check: ok, known (a departure of QEMU's explains it) or WRONG."""
    if check.departure is not None:
        return f"known  {check.subject}: it {check.found} in QEMU; the specification: it {check.expected} (QEMU departs, {check.departure})"
    mark = "ok   " if check.ok else "WRONG"
    return f"{mark}  {check.subject}: {check.found}" + ("" if check.ok else f", expected: {check.expected}")
