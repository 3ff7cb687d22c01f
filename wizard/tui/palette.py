"""The command palette: Textual's, without what ends the program in it."""

from __future__ import annotations

from textual.command import CommandList, CommandPalette, SearchIcon


class Palette(CommandPalette):
    """Page up and the like in a list without entries end Textual 8.2 with a KeyError: here they do nothing."""

    def on_mount(self) -> None:
        # An emoji is missing in many a font, and two cells wide in others.
        self.query_one(SearchIcon).icon = "/"

    def _action_command_list(self, action: str) -> None:
        if self.query_one(CommandList).option_count:
            super()._action_command_list(action)
