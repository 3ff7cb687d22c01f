"""Running: the VMs of this machine with their functions, and what happens to them, as it happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.worker import Worker, get_current_worker

from wizard.existing.load import Opened
from wizard.host.model import Host
from wizard.plan.request import VmRequest
from wizard.running.verify import World
from wizard.running.watch.places import IN_HAND, Places
from wizard.running.watch.records import Record
from wizard.running.watch.states import Look
from wizard.running.watch.watching import LOOK, Watch
from wizard.tui.lines import Line, line, wrap
from wizard.tui.running_lines import event_lines, vm_lines, whole_lines
from wizard.tui.screens.base import WizardScreen
from wizard.tui.screens.dialogs import Read
from wizard.tui.widgets.lines import LinesView

_KEPT = 1000  # records
_INTERVALS = 30  # of LOOK seconds


class RunningScreen(WizardScreen):
    """VMs above, what happens below, the newest first."""

    SCREEN = "running"
    ENTER = "Read it whole"
    ABOUT = """\
The VMs that run on this machine, and what happens to them: events of SMMUs with the function and where the address lies, QEMU's own
events, functions that are taken, released or change their power, memory that is pinned. Nothing is changed by looking.
enter on an event opens all of it: what it means, and what the same access does on the simulated SMMU.

A fault of a working guest's own tables goes to that guest alone and is not seen here, unless QEMU's trace events are on.
t takes the QMP sockets that are free, for QEMU's events: they serve one client at a time, so no other gets an answer meanwhile."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "hear", "QEMU's events", id="hear-qemu"),
    ]
    DEFAULT_CSS = """
    RunningScreen {
        #vms { height: 1fr; }
        #events { height: 1fr; background: $surface; }
        &.-tiny #events, &.-short #events { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[Record] = deque(maxlen=_KEPT)
        self.rates: deque[int] = deque([0] * _INTERVALS, maxlen=_INTERVALS)
        self._look = Look()
        self._said: list[str] = []
        self._hearing = False
        self._worker: Worker[None] | None = None
        self._mapped: tuple[Sequence[VmRequest], Host, Places] | None = None

    def body(self) -> Iterable[Widget]:
        yield LinesView(id="vms", classes="first")
        yield LinesView(id="events")

    def command(self) -> str:
        return "watch"

    def session_changed(self) -> None:
        if self._worker is None and self.wizard.source.live:
            self._worker = self._watch()
            self.set_interval(LOOK, self._next_interval)
        self._show()

    def action_hear(self) -> None:
        """Take the QMP sockets that are free, or let go of them."""
        self._hearing = not self._hearing
        if self._worker is not None:
            self._worker.cancel()
            self._worker = self._watch()

    @work(thread=True, exclusive=True, group="running")
    def _watch(self) -> None:
        worker = get_current_worker()
        watch = Watch(World(), take_qmp=self._hearing, places=self._places())
        try:
            said = watch.begin()
            self.app.call_from_thread(self._took, watch.look, [], said)
            for batch in watch.records(lambda: worker.is_cancelled):
                if batch or watch.look is not self._look:
                    self.app.call_from_thread(self._took, watch.look, batch, None)
        finally:
            watch.close()

    def _took(self, look: Look, batch: list[Record], said: list[str] | None) -> None:
        if said is not None:
            self._said = said
        self.records.extend(batch)
        self.rates[-1] += sum(one.count for one in batch)
        self._look = look
        if self.is_current:
            self._show()

    def _next_interval(self) -> None:
        self.rates.append(0)
        if self.is_current and any(self.rates):
            self._show()

    def _show(self) -> None:
        ascii = self.wizard.glyphs.ascii

        def vms(width: int) -> list[Line]:
            if not self.wizard.source.live:
                return list(wrap("This host was recorded. VMs that run are seen on the machine itself, in a wizard that is started there.", width))
            notes = [one for sentence in self._said for one in wrap(sentence, width, "dim")]
            return [*vm_lines(self._look), line(""), *notes]

        self.query_one("#vms", LinesView).show(vms)
        self.query_one("#events", LinesView).show(lambda width: list(event_lines(list(self.records), list(self.rates), ascii=ascii)))

    @on(LinesView.Chosen, "#events")
    def _chosen(self) -> None:
        place = self.query_one("#events", LinesView).cursor
        if not isinstance(place, int) or place >= len(self.records):
            return
        one = self.records[place]
        played = self._played(one)
        self.app.push_screen(Read(one.kind, lambda width: whole_lines(one, width, played)))

    def _played(self, one: Record) -> list[str]:
        vm = next((vm for vm in self._look.vms.values() if vm.name == one.vm), None)
        address = one.ipa or one.address
        if vm is None or one.function is None or address is None:
            return []
        return list(self._places().of(vm).played(one.function, int(address, 16)))

    def _places(self) -> Places:
        """By the VMs in hand where one has the name of a VM that runs, else by what runs."""
        asked = self.wizard.session.vms
        if self._mapped is None or self._mapped[0] is not asked or self._mapped[1] is not self.wizard.host:
            opened = [Opened(request=one, findings=(), source="the VM in hand", kind=IN_HAND) for one in asked]
            host = self.wizard.host
            self._mapped = (asked, host, Places(lambda: host, opened))
        return self._mapped[2]
