"""Opening profiles: also those with errors in them, which are shown and can be mended here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wizard.base.errors import WizardError
from wizard.base.text import plural
from wizard.tui import state
from wizard.tui.lines import BLANK, Line, finding_lines, heading

if TYPE_CHECKING:
    from wizard.tui.app import WizardApp


def ask_for_profiles(app: WizardApp) -> None:
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


def open_profiles(app: WizardApp, paths: list[str]) -> None:
    """Open profiles into the session; what is wrong with their text is shown."""
    from wizard.profile import read_profile

    session, wrong, opened = app.session, [], 0
    first = not session.vms
    for path in paths:
        try:
            request, findings = read_profile(Path(path))
        except WizardError as error:
            app.say(error, "error")
            continue
        wrong += findings
        session = state.open_profile(session, request, path)
        opened += 1
        if (text := app.read_text(path)) is not None:
            app.seen[path] = text
    if opened:
        app.do(f"open {plural(opened, 'profile')}", session)
        if first:
            app.saved = app.session  # as it is on disk
    if wrong:
        from wizard.tui.screens.dialogs import Read

        glyphs = app.glyphs

        def build(width: int) -> list[Line]:
            lines: list[Line] = [heading("What is wrong in these files, with the line"), BLANK]
            for finding in wrong:
                lines += [*finding_lines(finding, width, glyphs), BLANK]
            return lines

        app.push_screen(Read(plural(len(wrong), "finding"), build))
