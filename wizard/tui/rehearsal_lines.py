"""A rehearsal as lines: what would be started, the checks by part, what stood in for what. No Textual here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wizard.base.glyphs import Glyphs
from wizard.base.text import plural
from wizard.plan.model import VmPlan
from wizard.tui.lines import BLANK, Line, Span, finding_lines, heading, line, wrap

if TYPE_CHECKING:
    from wizard.rehearsal.report import Check, Explained, Report


def about_lines(vm: VmPlan, qemu: str | None, width: int) -> list[Line]:
    """What s would start: in which QEMU, with or without firmware, and what of this machine it touches."""
    from wizard.rehearsal.qemu import find_qemu, firmware_here

    firmware = firmware_here(vm)
    told = vm.firmware.code if vm.firmware else ""
    rows: list[tuple[str, str]] = [
        ("VM", f"{vm.name}: {plural(len(vm.ports), 'root port')}, {plural(len(vm.vsmmus), 'vSMMU')}, {plural(len(vm.devices), 'function')}"),
        ("QEMU", qemu or find_qemu()),
        ("UEFI", str(firmware[0]) if firmware else f"{told or 'none'} is not on this machine: QEMU alone is asked, UEFI numbers no bus"),
    ]
    lines = [heading("Not rehearsed yet: s starts it")]
    for label, text in rows:
        lines += wrap(text, width, first=f"  {label:<6}", lead="dim")
    words = "Stand-ins take the places of the assigned functions: nothing of this machine is touched, and no root is needed. It takes some seconds."
    return [*lines, BLANK, *wrap(words, width, "dim", first="  ")]


def sign(check: Check, glyphs: Glyphs) -> Span:
    """As planned, a known departure of QEMU's, or neither."""
    if check.departure is not None:
        return glyphs.warning, "warn"
    return (glyphs.yes, "good") if check.ok else (glyphs.no, "bad")


def report_lines(report: Report, width: int, glyphs: Glyphs) -> list[Line]:
    """Findings first, then every check by its part, then what stood in and what was left out. A check's key is its place."""
    from wizard.rehearsal.text import PARTS

    lines = [one for finding in report.findings for one in (*finding_lines(finding, width, glyphs), BLANK)]
    if report.explained is not None:
        lines += [*_explained(report.explained, width), BLANK]
    for part, title in PARTS.items():
        checks = [(place, check) for place, check in enumerate(report.checks) if check.part == part]
        if checks:
            lines += [heading(title.rstrip(":")), *(one for place, check in checks for one in _row(check, place, width, glyphs))]
    for title, texts in (("Left out", report.left_out), ("Stand-ins and notes", report.notes)):
        if texts:
            lines.append(heading(title))
            for text in texts:
                lines += wrap(text, width, "dim", first=f"  {glyphs.bullet} ", lead="dim")
    return lines


def _explained(words: Explained, width: int) -> Iterator[Line]:
    yield heading("What QEMU's words mean")
    yield from wrap(words.message, width, "bold", first="  ")
    yield from wrap(words.means, width, first="  ")
    for reason in words.reasons:
        yield from wrap(reason.because, width, first="  may be  ", lead="warn")
        yield from wrap(reason.fix, width, first="  fix     ", lead="accent")
    if words.fix:
        yield from wrap(words.fix, width, first="  fix     ", lead="accent")


def _row(check: Check, place: int, width: int, glyphs: Glyphs) -> Iterator[Line]:
    mark, role = sign(check, glyphs)
    text = f"{check.subject}: {check.found}" + ("" if check.expected == check.found else f", expected: {check.expected}")
    yield from wrap(text, width, "" if check.ok else "bad", first=f"  {mark} ", lead=role, key=place)


def check_lines(check: Check, width: int, glyphs: Glyphs) -> list[Line]:
    """One check whole."""
    mark, role = sign(check, glyphs)
    words = "as planned" if check.expected == check.found else "a known departure of QEMU's" if check.departure else "not as planned"
    lines = [line((f"{mark} {words}", role)), BLANK]
    for label, text in (("asked", check.subject), ("found", check.found), ("expected", check.expected), ("departure", check.departure or "")):
        if text:
            lines += wrap(text, width, first=f"  {label:<10}", lead="dim")
    return lines
