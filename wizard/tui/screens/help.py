"""Help: what a screen is for, and every key that works on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual.binding import Binding
from textual.screen import Screen

from wizard.tui.lines import BLANK, Line, heading, line, wrap
from wizard.tui.screens.base import MOVES, WizardScreen
from wizard.tui.screens.dialogs import Read

if TYPE_CHECKING:
    from wizard.tui.wizard import Wizard


def help_screen(app: Wizard, screen: Screen[Any]) -> Read:
    """The help of a screen, with the keys as they are configured."""
    keys: list[tuple[str, str, str]] = []
    seen: dict[str, int] = {}
    own = screen._bindings.key_to_bindings
    for active in screen.active_bindings.values():
        binding = active.binding
        if not binding.id and any(one.id for one in own.get(binding.key, ())):
            continue  # of the widget with the focus: the screen takes the key where that has nothing to scroll
        if binding.action in seen:
            place = seen[binding.action]
            # One sign stands for all keys of a binding; the second key by its name.
            another = app.get_key_display(binding if binding.key_display != keys[place][0] else replace(binding, key_display=None))
            keys[place] = (f"{keys[place][0]} {another}", *keys[place][1:])
            continue
        if binding.description:
            seen[binding.action] = len(keys)
            words = getattr(screen, "ENTER", "") if binding.id == "choose" else ""
            keys.append((app.get_key_display(binding), words or binding.description, binding.id or ""))
    command = screen.command() if isinstance(screen, WizardScreen) else None
    words = getattr(screen, "ABOUT", "") or "A question: enter answers it, escape goes back."
    name = getattr(screen, "SCREEN", "")
    config = app.config.path

    # Of the screen and of what it is a kind of, down to what all screens are.
    kinds = [kind for kind in type(screen).__mro__ if issubclass(kind, Screen) and not issubclass(WizardScreen, kind)]
    here = {binding.id for kind in kinds for binding in vars(kind).get("BINDINGS", ()) if isinstance(binding, Binding)}

    def table(wanted: list[tuple[str, str, str]]) -> list[Line]:
        return [line((f"  {key:<18}", "key"), f"{description:<28}", (name, "dim")) for key, description, name in wanted]

    def build(width: int) -> list[Line]:
        # What this screen does comes before what every screen does, and that before what every view does: moving and scrolling.
        moves = [one for one in keys if one[2] in MOVES or not one[2]]
        own = [one for one in keys if one[2] in here or (one[2] == "choose" and bool(getattr(screen, "ENTER", "")))]
        rest = [one for one in keys if one not in moves and one not in own]
        lines = [heading("Keys here (at the right: their names for [keys] of the configuration)"), *table(own), BLANK]
        lines.append(heading("What it is for"))
        for paragraph in words.split("\n\n"):
            if "\n  " in paragraph:
                text, _, more = paragraph.partition("\n  ")
                lines += wrap(text.replace("\n", " "), width)
                lines += [line(f"  {part.strip()}") for part in more.replace("\n", "   ").split("   ") if part.strip()]
            else:
                lines += wrap(paragraph.replace("\n", " "), width)
            lines.append(BLANK)
        lines += [heading("Keys everywhere"), *table(rest), *table(moves)]
        lines += wrap("The mouse does what the keys do: click a row, a tab or a key; click a row again to open it; the wheel scrolls.", width)
        if command is not None:
            lines += [BLANK, heading("The same without a terminal"), *wrap(app.command_words(command), width, first="  ")]
        if config:
            lines += [BLANK, *wrap(f'Configuration: {config} with theme = "…", ascii = true, and [keys] NAME = "key,key".', width)]
        return lines

    return Read(f"Help: {name or 'dialog'}", build)
