"""Topology: every VM with its functions beside the host that they come from; and one VM's PCI tree as its firmware will number it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from wizard.base.text import plural
from wizard.picture.pieces import Drawing, plain
from wizard.picture.topology import Topology, topology
from wizard.picture.topotext import draw as draw_all
from wizard.plan.model import VmPlan
from wizard.tui import state
from wizard.tui.drawing import draw
from wizard.tui.lines import Line, heading, line
from wizard.tui.lines import plain as plain_lines
from wizard.tui.screens.base import WizardScreen
from wizard.tui.widgets.lines import LinesView
from wizard.tui.widgets.picture import PictureView

JUDGED = 2000  # functions of the host up to which those that nobody has are counted by verdict while the key waits

_PAIRS = 28  # eight functions with one another


class TopologyScreen(WizardScreen):
    """All VMs, or one."""

    SCREEN = "topology"
    ENTER = "What is known"
    ABOUT = """\
All VMs at the left, the host at the right, and a line from each vSMMU to the SMMU that it stands for. Every VM has a letter and a
colour, its functions the letter with a number, at both ends. What several VMs share, and functions that are on another NUMA node
than their VM's memory, are marked.

a gives the function under the cursor to another VM, x takes it back: each is one step that u undoes. Enter on a VM, or t, shows that
VM's own PCI tree beside the part of the host's that it comes from, and below whether each two of its functions reach each other's
BARs, and through what; v shows another VM. Guest addresses and vSIDs are predictions until firmware has numbered the buses;
rehearse holds them against a real QEMU."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "move", "Give to a VM", id="move-function"),
        Binding("x", "take", "Take back", id="take-function"),
        Binding("t", "one", "All/one VM", id="one-vm"),
        Binding("v", "vm(1)", "Next VM", id="next-vm"),
        Binding("V", "vm(-1)", "Previous VM", show=False, id="previous-vm"),
        Binding("c", "copy", "Copy drawing", id="copy-drawing"),
    ]
    DEFAULT_CSS = """
    TopologyScreen #drawing, TopologyScreen #all { height: 1fr; }
    TopologyScreen #drawing { display: none; }
    TopologyScreen.-one #all { display: none; }
    TopologyScreen.-one #drawing { display: block; }
    """

    def body(self) -> Iterable[Widget]:
        yield PictureView(id="all", classes="first", wide=True)
        yield LinesView(id="drawing", wide=True)

    @property
    def all(self) -> PictureView:
        """The drawing of all VMs."""
        return self.query_one("#all", PictureView)

    @property
    def single(self) -> bool:
        """Whether one VM is shown."""
        return self.has_class("-one")

    @property
    def subject(self) -> str | None:
        if self.single:
            return super().subject
        match self.all.cursor:
            case ("function" | "free", str(address), *_) if address in self.wizard.host.functions:
                return address
            case ("smmu", str(name)) if name in self.wizard.host.smmus:
                return name
        return None

    def command(self) -> str:
        """The same for a document."""
        session = self.session
        files = [session.file_of(vm.name) or f"{vm.name}.toml" for vm in session.vms if not self.single or vm.name == session.current]
        return shlex.join(["topology", *files])

    def session_changed(self) -> None:
        if self.single:
            self.query_one("#drawing", LinesView).show(self._lines)
        else:
            self.all.draw(self._drawing)

    def picture(self) -> Topology:
        """All of it, as data."""
        host = self.wizard.host
        return topology(host, self.wizard.plan, judge=len(host.functions) <= JUDGED)

    def _drawing(self, width: int) -> Drawing:
        functions = self.wizard.host.functions
        height = self.all.size.height
        return draw_all(self.picture(), width, self.wizard.glyphs, height=height, name=lambda address: functions[address].short_name)

    def _lines(self, width: int) -> list[Line]:
        plan = self.wizard.plan
        vm = next((one for one in plan.vms if one.name == self.session.current), plan.vms[0]) if plan and plan.vms else None
        if vm is None:
            return [line(("Nothing is planned yet: give functions to a VM on 1 Host.", "dim"))]
        return [*draw(self.wizard.index, vm, width, self.wizard.glyphs), *self._peers(vm)]

    def _peers(self, vm: VmPlan) -> Iterator[Line]:
        from wizard.plan.peers import Reach, pair_line, pairs_of

        pairs = pairs_of(self.wizard.host, vm)
        if pairs:
            yield line("")
            yield heading("Peer to peer")
        for pair in pairs[:_PAIRS]:
            yield line((f"  {pair_line(pair)}", "bad" if pair.reach is Reach.CANNOT else "warn" if pair.isolated is False else ""))
        if len(pairs) > _PAIRS:
            yield line((f"  and {plural(len(pairs) - _PAIRS, 'pair')} more: plan --json", "dim"))

    # Actions.

    def action_one(self) -> None:
        """All VMs, or the one in hand."""
        match self.all.cursor:
            case ("vm", str(name)) | ("function", _, str(name)) if not self.single and self.session.get(name):
                self.wizard.look(state.select(self.session, name))
        self.set_class(not self.single, "-one")
        self.set_focus(self.query_one("#drawing") if self.single else self.all)
        self.update()

    def action_vm(self, step: int) -> None:
        if not self.session.vms:
            return
        self.wizard.look(state.step_vm(self.session, step))
        if not self.single and self.session.current:
            self.all.go_to(("vm", self.session.current))

    def action_copy(self) -> None:
        width = max(80, self.size.width)
        self.wizard.copy(plain_lines(self._lines(width)) if self.single else plain(self._drawing(width)))

    def _function(self) -> str | None:
        found = self.subject
        if found is None or found not in self.wizard.host.functions:
            self.wizard.say("Put the cursor on a function first.", "warning")
            return None
        return found

    def action_move(self) -> None:
        """Another VM for the function under the cursor."""
        address = self._function()
        if address is None:
            return
        from wizard.tui.screens.assign import assign_functions

        names = [vm.name for vm in self.session.vms]
        owner = self.session.owner(address)
        # The one that has it is the last that is meant.
        to = names[(names.index(owner) + 1) % len(names)] if owner in names else None
        assign_functions(self.wizard, [address], to=to)

    def action_take(self) -> None:
        """Nobody's again."""
        address = self._function()
        if address is None:
            return
        if self.session.owner(address) is None:
            self.wizard.say("No VM has this function.", "warning")
            return
        self.wizard.do(f"take back {address}", state.unassign(self.session, [address]))

    @on(LinesView.Chosen)
    def _chosen(self, event: LinesView.Chosen) -> None:
        match event.key:
            case ("vm", _):
                self.action_one()
            case ("gate", _):
                self.wizard.action_go("vms")
            case str(key) if key.startswith("vsmmu/"):
                self.wizard.action_go("vms")
            case None:
                return
            case _ if self.subject:
                self.action_details()
