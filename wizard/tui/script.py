"""Scripts of keys: a recording that is played headless, for screenshots, demos and bug reports.

One command a line, words in shell quotes, ``#`` begins a remark:

    size 80 24              columns and rows (before the first key; default 80 24)
    theme textual-light     a theme of Textual's; ascii: draw with ASCII
    press a j enter         keys by their Textual names, one after the other
    type "web server"       text, key by key
    click 10 5              the mouse, column and row from 0
    resize 20 5             the terminal gets another size
    wait 0.5                seconds; before each command the wizard is idle anyway
    expect "NVM Express"    the screen has to show this text
    screenshot host.svg     save the screen beside the script (host.txt: as text); what was there is replaced
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizard.base.directories import make_directory
from wizard.base.errors import InputError, OutputError
from wizard.base.files import write_atomic
from wizard.base.text import visible

if TYPE_CHECKING:
    from textual.app import App
    from textual.pilot import Pilot

_WORDS = {"size": 2, "theme": 1, "ascii": 0, "press": -1, "type": 1, "click": 2, "resize": 2, "wait": 1, "expect": 1, "screenshot": 1}

# A script may come from a stranger: its pictures replace what is there, so they go nowhere but beside it.
_PICTURE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*\.(svg|txt)")


@dataclass(frozen=True)
class Step:
    """One command with its line, for errors."""

    line: int
    command: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Script:
    """What is played, and how large the terminal is."""

    path: Path
    steps: tuple[Step, ...]
    size: tuple[int, int] = (80, 24)
    theme: str | None = None
    ascii: bool = False


def read_script(path: Path) -> Script:
    """A script from a file; ``InputError`` names the line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The script {visible(str(path))} can't be read: {visible(str(error))}.", "Name a text file with one command a line."
        ) from error
    return parse_script(text, path)


def parse_script(text: str, path: Path) -> Script:
    """A script from its text."""
    steps, size, theme, plain = [], (80, 24), None, False
    for number, row in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(row, comments=True)
        except ValueError as error:
            raise _wrong(path, number, f"{error}") from error
        if not words:
            continue
        command, *rest = words
        if command not in _WORDS:
            raise _wrong(path, number, f"there is no command {visible(command)}; there are {', '.join(_WORDS)}")
        count = _WORDS[command]
        if (count >= 0 and len(rest) != count) or (count < 0 and not rest):
            raise _wrong(path, number, f"{command} takes {'one word or more' if count < 0 else f'{count} words'}")
        try:
            if command in ("size", "resize", "click"):
                pair = (int(rest[0]), int(rest[1]))
                if command != "click" and not (1 <= pair[0] <= 1000 and 1 <= pair[1] <= 1000):
                    raise ValueError("1 to 1000 columns and rows")
                size = pair if command == "size" else size
            elif command == "screenshot" and not _PICTURE.fullmatch(rest[0]):
                raise ValueError("a name beside the script, ending in .svg or .txt")
            elif command == "wait" and not 0 <= float(rest[0]) <= 600:
                raise ValueError("0 to 600 seconds")
        except ValueError as error:
            raise _wrong(path, number, f"{command}: {visible(str(error))}") from error
        if command == "theme":
            theme = rest[0]
        elif command == "ascii":
            plain = True
        elif command != "size":
            steps.append(Step(number, command, tuple(rest)))
    return Script(path, tuple(steps), size, theme, plain)


def _wrong(path: Path, number: int, what: str) -> InputError:
    return InputError(f"{visible(str(path))}, line {number}: {what}.", "See docs/wizard.md for what a script may say.")


def screen_text(app: App[Any]) -> str:
    """The screen as text, rows without trailing blanks."""
    strips = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips) + "\n"


def play(app: App[Any], script: Script) -> None:
    """Play it headless. What a script expects and does not find is an ``InputError``; the app ends with the script."""
    failed: list[Exception] = []

    async def pilot(pilot: Pilot[Any]) -> None:
        try:
            await _steps(app, pilot, script)
        except (InputError, OutputError) as error:
            failed.append(error)
        finally:
            app.exit(0)

    app.run(headless=True, size=script.size, auto_pilot=pilot)
    if failed:
        raise failed[0]


async def _steps(app: App[Any], pilot: Pilot[Any], script: Script) -> None:
    await _idle(app, pilot)
    for step in script.steps:
        words = step.words
        if step.command == "press":
            for key in words:
                await pilot.press(key)
                await _idle(app, pilot)
        elif step.command == "type":
            await pilot.press(*(_KEYS.get(character, character) for character in words[0]))
        elif step.command == "click":
            await pilot.click(offset=(int(words[0]), int(words[1])))
        elif step.command == "resize":
            await pilot.resize_terminal(int(words[0]), int(words[1]))
        elif step.command == "wait":
            await pilot.pause(float(words[0]))
        await _idle(app, pilot)
        if step.command == "expect" and words[0] not in screen_text(app):
            raise InputError(
                f"{visible(str(script.path))}, line {step.line}: the screen does not show {visible(words[0])!r}.", f"It shows:\n{screen_text(app)}"
            )
        if step.command == "screenshot":
            path = script.path.parent / words[0]
            _save(app, path)


def _save(app: App[Any], path: Path) -> None:
    # Toasts and timers aside, the same screen gives the same file: the picture's ids follow from its content.
    text = screen_text(app) if path.suffix == ".txt" else app.export_screenshot(title="smmu-wizard")
    try:
        make_directory(path.parent)
    except OSError as error:
        raise OutputError(f"{visible(str(path.parent))} can't be made: {error.strerror}.", "Name another directory.") from error
    write_atomic(path, text, force=True)


async def _idle(app: App[Any], pilot: Pilot[Any]) -> None:
    await pilot.pause()
    await app.workers.wait_for_complete()
    await pilot.pause()


_KEYS = {
    " ": "space", ".": "full_stop", ",": "comma", "/": "slash", ":": "colon", "-": "minus", "_": "underscore", "*": "asterisk",
    "=": "equals_sign", "\\": "backslash", "~": "tilde", "+": "plus", "'": "apostrophe", '"': "quotation_mark", "@": "at",
    "(": "left_parenthesis", ")": "right_parenthesis",
}  # fmt: skip
