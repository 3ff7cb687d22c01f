"""The command palette: Textual's, without what ends the program in it."""

from __future__ import annotations

from textual.command import CommandList, CommandPalette


class Palette(CommandPalette):
    """Page up and the like in a list without entries end Textual 8.2 with a KeyError: here they do nothing."""

    def _action_command_list(self, action: str) -> None:
        if self.query_one(CommandList).option_count:
            super()._action_command_list(action)
