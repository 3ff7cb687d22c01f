"""Topology: the guest's PCI tree as it will be, beside the host's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from wizard.tui import state
from wizard.tui.describe import detail_lines
from wizard.tui.drawing import draw
from wizard.tui.lines import Line, line
from wizard.tui.screens.base import WizardScreen
from wizard.tui.widgets.lines import LinesView


class TopologyScreen(WizardScreen):
    """One VM at a time."""

    SCREEN = "topology"
    ENTER = "What is known"
    ABOUT = """\
The guest's buses, ports and functions at the left, as its firmware will number them, and the part of the host's tree that they
come from at the right. Every vSMMU has a letter, and the SMMU that it stands for carries the same; functions have the letter with
a number. Guest addresses and vSIDs are predictions until firmware has numbered the buses; rehearse holds them against a real QEMU.

v shows another VM, enter what is known of the function under the cursor."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "vm(1)", "Next VM", id="next-vm"),
        Binding("V", "vm(-1)", "Previous VM", show=False, id="previous-vm"),
        Binding("c", "copy", "Copy drawing", id="copy-drawing"),
    ]
    DEFAULT_CSS = """
    TopologyScreen #drawing { height: 1fr; }
    """

    def body(self) -> Iterable[Widget]:
        yield LinesView(id="drawing", classes="first", wide=True)

    def command(self) -> str:
        import shlex

        vm = self.session.vm
        return f"rehearse {shlex.quote(vm.name + '.toml')}" if vm else "rehearse PROFILE"

    def session_changed(self) -> None:
        self.query_one("#drawing", LinesView).show(self._lines)

    def _lines(self, width: int) -> list[Line]:
        plan = self.wizard.plan
        vm = next((one for one in plan.vms if one.name == self.session.current), plan.vms[0]) if plan and plan.vms else None
        if vm is None:
            return [line(("Nothing is planned yet: give functions to a VM on 1 Host.", "dim"))]
        return draw(self.wizard.index, vm, width, self.wizard.glyphs)

    def action_vm(self, step: int) -> None:
        if self.session.vms:
            self.wizard.look(state.step_vm(self.session, step))

    def action_copy(self) -> None:
        from wizard.tui.lines import plain

        self.wizard.copy(plain(self._lines(max(80, self.size.width))))

    @on(LinesView.Chosen, "#drawing")
    def _chosen(self, event: LinesView.Chosen) -> None:
        from wizard.tui.screens.dialogs import Read

        key = event.key
        if isinstance(key, str) and key.startswith("function/") and (address := key.partition("/")[2]) in self.wizard.host.functions:
            index, session, glyphs = self.wizard.index, self.session, self.wizard.glyphs
            self.app.push_screen(Read(address, lambda width: detail_lines(index, session, address, width, glyphs)))
        elif isinstance(key, str) and key.startswith("vsmmu/"):
            self.wizard.action_go("vms")
