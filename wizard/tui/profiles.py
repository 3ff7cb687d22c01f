"""Opening profiles: also those with errors in them, which are shown and can be mended here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from wizard.base.errors import InputError, WizardError
from wizard.base.finding import Finding
from wizard.base.text import plural, visible
from wizard.existing.load import open_vms
from wizard.plan.request import VmRequest
from wizard.tui import state
from wizard.tui.files import trouble
from wizard.tui.lines import BLANK, Line, finding_lines, heading, wrap

if TYPE_CHECKING:
    from wizard.tui.wizard import Wizard


def ask_for_profiles(app: Wizard) -> None:
    """Ask for files, then open them."""
    from wizard.tui.screens.dialogs import Prompt

    def check(text: str) -> str | None:
        return None if text.strip() else "One or more files; *.toml takes all of a directory."

    def answered(value: object) -> None:
        if isinstance(value, str):
            open_profiles(app, expand(value))

    app.push_screen(Prompt("Open profiles", "*.toml", note="Files, with spaces between; * stands for any name.", check=check), answered)


def expand(text: str) -> list[str]:
    """The files that words with ``*`` name; a word that matches nothing stays, to be reported by name."""
    import glob
    import shlex

    try:
        words = shlex.split(text)
    except ValueError:
        words = [text]
    return [path for word in words for path in (sorted(glob.glob(str(Path(word).expanduser()))) or [word])]


def open_profiles(app: Wizard, paths: list[str]) -> None:
    """Open profiles into the session, read in a worker; what is wrong with their text is shown."""

    def read() -> None:
        found: list[Opened] = []
        errors: list[WizardError] = []
        for path in paths:
            try:
                if what := trouble(path):
                    raise InputError(f"{visible(path)} is {what}.", "A profile is a TOML file; *.toml takes all of a directory.")
                vms = open_vms(path)
            except WizardError as error:
                errors.append(error)
            else:
                # What was imported is no profile yet: it gets a file of its own when it is exported.
                text = app.read_text(path) if vms[0].kind == "profile" else None
                found += [Opened(path, vm.request, list(vm.findings), text, vm.kind != "profile") for vm in vms]
        app.call_from_thread(_opened, app, found, errors)

    app.run_worker(read, thread=True, exclusive=True, group="open")


@dataclass(frozen=True)
class Opened:
    """A profile as it was read, with what is wrong in it and its text."""

    path: str
    request: VmRequest
    findings: list[Finding]
    text: str | None
    imported: bool = False  # of a domain or a command line: its file is somebody else's, and never written to


def _opened(app: Wizard, found: Sequence[Opened], errors: Sequence[WizardError]) -> None:
    lost = _replacing(app, found)
    if not lost:
        _take(app, found, errors)
        return
    from wizard.tui.screens.dialogs import Choose, choices

    names = ", ".join(dict.fromkeys(visible(one.request.name) for one in lost))
    text = (f"A VM of that name is here already, and it is not as in the file: {names}.", "What is here was not exported.")
    items = (
        ("beside", "Open what is in the file beside it, under a new name"),
        ("replace", "Replace it"),
        ("leave", "Leave it, and this file closed"),
    )

    def answered(value: object) -> None:
        if value == "replace":
            _take(app, found, errors)
        elif value == "beside":
            _take(app, found, errors, beside=lost)
        else:
            _take(app, [one for one in found if one not in lost], errors)

    app.push_screen(Choose("Open profiles", choices(text, items), start="beside"), answered)


def _replacing(app: Wizard, found: Sequence[Opened]) -> list[Opened]:
    """Those that would take the place of a VM that is nowhere else: of the session, or of another file that is opened with it."""
    here = {vm.name: vm for vm in app.session.vms if vm not in app.saved.vms}
    lost = []
    for one in found:
        if here.setdefault(one.request.name, one.request) != one.request:
            lost.append(one)
    return lost


def _take(app: Wizard, found: Sequence[Opened], errors: Sequence[WizardError], *, beside: Sequence[Opened] = ()) -> None:
    session, first = app.session, not app.session.vms
    for one in found:
        if one in beside:
            name = state.free_name(session, f"{one.request.name}-")
            session = state.add_request(session, replace(one.request, name=name, uuid=None, qmp=None))
            continue
        if one.imported:
            session = state.add_request(session, one.request)
            continue
        session = state.open_profile(session, one.request, one.path)
        if one.text is not None:
            app.seen[one.path] = one.text
    if found:
        app.do(f"open {plural(len(found), 'profile')}", session)
        if first:
            app.saved = app.session  # as it is on disk
    wrong = [finding for one in found for finding in one.findings]
    if not errors and not wrong:
        return
    from wizard.tui.screens.dialogs import Read

    glyphs = app.glyphs

    def build(width: int) -> list[Line]:
        lines: list[Line] = []
        for error in errors:
            lines += [*wrap(f"{glyphs.no} {error.what}", width, "bad"), *wrap(error.fix, width), BLANK]
        if wrong:
            lines += [heading("What is wrong in the files that were opened, with the line"), BLANK]
        for finding in wrong:
            lines += [*finding_lines(finding, width, glyphs), BLANK]
        return lines

    told = (plural(len(errors), "file") + " not opened" if errors else "", plural(len(wrong), "finding") if wrong else "")
    app.push_screen(Read(", ".join(one for one in told if one), build))
