"""Choosing functions for one VM: the device table over the VMs screen, with what comes along and what stands against it."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from wizard.tui.screens.host import HostScreen


class PickScreen(HostScreen):
    """The host, to choose from: enter gives what is marked, or what is under the cursor."""

    SCREEN = "vms"
    ENTER = "Give"
    ABOUT = """\
Choose functions for the VM: space marks several, a or enter gives them, after showing what comes along and what stands against it.
escape goes back."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "assign", "Give", id="give"),
        Binding("escape,q", "back", "Back", id="back"),
    ]

    def __init__(self, vm: str) -> None:
        super().__init__()
        self._vm = vm

    def action_back(self) -> None:
        if self.query("#filterbox.-open"):
            self.action_clear()
        else:
            self.dismiss(None)

    def action_assign(self) -> None:
        chosen = self._chosen_functions()
        if not chosen:
            self.wizard.say("A bridge without functions below it is not assigned: choose an endpoint.", "warning")
            return
        from wizard.tui.screens.assign import assign_functions

        assign_functions(self.wizard, chosen, done=self._given, to=self._vm)

    def _given(self) -> None:
        self.dismiss(None)

    def choose(self) -> None:
        """Enter, or a second click: give it."""
        self.action_assign()
