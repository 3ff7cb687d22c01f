"""Rehearse: the VM in hand in the QEMU of this machine, with stand-ins, and what that QEMU says of each place that was planned."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import Worker, get_current_worker

from wizard.base.errors import WizardError
from wizard.base.finding import grouped
from wizard.base.text import plural
from wizard.plan.model import VmPlan
from wizard.tui import state
from wizard.tui.lines import BLANK, Line, item_lines, line, wrap
from wizard.tui.rehearsal_lines import about_lines, check_lines, report_lines
from wizard.tui.screens.base import WizardScreen
from wizard.tui.screens.dialogs import Prompt, Read
from wizard.tui.widgets.bars import Bar, Piece
from wizard.tui.widgets.lines import LinesView

if TYPE_CHECKING:
    from wizard.rehearsal.report import Report


class RehearseScreen(WizardScreen):
    """One VM at a time; a report is kept as long as its VM is planned as it was."""

    SCREEN = "rehearse"
    ENTER = "Whole"
    ABOUT = """\
The topology of the VM in hand, started in the QEMU of this machine and asked by QMP whether every bus, port, vSMMU and function is
where the plan puts it; with UEFI on this machine its firmware numbers the buses, too. Where that QEMU has what it takes, writes of
every function go through QEMU's own SMMUv3, and the answers are held against the simulated one.

Stand-ins take the places of the assigned functions, so nothing of the host is touched and no root is needed; what that leaves out is
said. A tick is as planned, a triangle a departure of QEMU's from the specification that is known, a cross is neither.

s starts and stops it, n goes to what differs, p names another QEMU, enter shows a check whole."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Run/stop", id="run"),
        Binding("v", "vm(1)", "Next VM", id="next-vm"),
        Binding("V", "vm(-1)", "Previous VM", show=False, id="previous-vm"),
        Binding("n", "difference", "Next difference", id="next-difference"),
        Binding("p", "qemu", "Which QEMU", id="which-qemu"),
        Binding("c", "copy", "Copy report", id="copy-report"),
    ]
    DEFAULT_CSS = """
    RehearseScreen #checks { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.qemu: str | None = None  # None: the one of this machine
        self.doing = ""
        self._since = 0.0
        self._what: VmPlan | None = None
        self._worker: Worker[None] | None = None
        self._clock: Timer | None = None

    def body(self) -> Iterable[Widget]:
        yield Status()
        yield LinesView(id="checks", classes="first")

    def command(self) -> str:
        vm = self.vm
        words = ["rehearse", f"{vm.name}.toml" if vm else "PROFILE"]
        return shlex.join([*words, "--qemu", self.qemu] if self.qemu else words)

    @property
    def vm(self) -> VmPlan | None:
        """The VM in hand, as planned."""
        plan = self.wizard.plan
        if plan is None or not plan.vms:
            return None
        return next((one for one in plan.vms if one.name == self.session.current), plan.vms[0])

    @property
    def found(self) -> Report | WizardError | None:
        """What came out for the VM in hand, None unless it was rehearsed as it is planned now."""
        return self.wizard.results.rehearsal(self.vm) if self.vm else None

    def go_on(self) -> None:
        """Rehearse the next VM that was not."""
        plan = self.wizard.plan
        left = self.wizard.results.unrehearsed(plan) if plan is not None else []
        if self.running:
            self.wizard.say("It is still being rehearsed; s stops it.")
        if self.running or not left:
            return
        self.wizard.look(state.select(self.session, left[0].name))
        self.action_start()

    # Running.

    @property
    def running(self) -> bool:
        """Whether a worker is at it."""
        return self._worker is not None and self._worker.is_running

    def action_start(self) -> None:
        if self.running and self._worker is not None:
            self._worker.cancel()
            self.doing = "stopping"
            self.query_one(Status).refresh()
            return
        vm, plan = self.vm, self.wizard.plan
        if vm is None or plan is None:
            return
        if not plan.ok:
            self.wizard.say(f"{plural(len(plan.errors), 'error')}: what would not start is not rehearsed (3 Review).", "error")
            return
        self.wizard.results.rehearsals.pop(vm.name, None)
        self.doing, self._since, self._what = "starting", time.monotonic(), vm
        self._worker = self.run_worker(lambda: self._run(vm), thread=True, exclusive=True, group="rehearse")
        self._clock = self._clock or self.set_interval(0.1, self._look)
        self.update()

    def _run(self, vm: VmPlan) -> None:
        from wizard.dryrun.model import Cancelled
        from wizard.explain.short import with_words_explained
        from wizard.rehearsal.qemu import find_qemu, firmware_here, rehearse

        worker = get_current_worker()

        def progress(doing: str) -> None:
            self.doing = doing

        report: Report | WizardError
        try:
            said = rehearse(vm, self.qemu or find_qemu(), firmware=firmware_here(vm), progress=progress, stop=lambda: worker.is_cancelled)
            report = with_words_explained(said)
        except Cancelled:
            return
        except WizardError as error:
            report = error
        if not worker.is_cancelled:
            self.app.call_from_thread(self._reported, vm, report)

    def _reported(self, vm: VmPlan, report: Report | WizardError) -> None:
        self.wizard.results.rehearsals[vm.name] = vm, report
        self.wizard.tried()

    def _look(self) -> None:
        self.query_one(Status).refresh()
        if not self.running and self._clock is not None:
            self._clock.stop()
            self._clock = None
            self.update()

    # Drawing.

    def session_changed(self) -> None:
        self.query_one(Status).refresh()
        self.query_one("#checks", LinesView).show(self._lines)

    def _lines(self, width: int) -> list[Line]:
        plan, vm, glyphs, found = self.wizard.plan, self.vm, self.wizard.glyphs, self.found
        if vm is None or plan is None:
            return [line(("Nothing is planned yet: give functions to a VM on 1 Host.", "dim"))]
        if not plan.ok:
            lines = [line((f"{plural(len(plan.errors), 'error')}: what would not start is not rehearsed.", "bad")), BLANK]
            return [*lines, *(one for item in grouped(plan.errors) for one in (*item_lines(item, width, glyphs), BLANK))]
        if isinstance(found, WizardError):
            return [*wrap(found.what, width, "bad"), *wrap(found.fix, width), BLANK, *wrap("p names another QEMU, s tries again.", width, "dim")]
        if found is not None:
            return report_lines(found, width, glyphs)
        return [] if self.running else about_lines(vm, self.qemu, width)

    @on(LinesView.Chosen, "#checks")
    def _open(self, event: LinesView.Chosen) -> None:
        found, glyphs = self.found, self.wizard.glyphs
        if isinstance(found, WizardError) or found is None or not isinstance(event.key, int):
            return
        check = found.checks[event.key]
        self.app.push_screen(Read(check.subject, lambda width: check_lines(check, width, glyphs)))

    # Actions.

    def action_vm(self, step: int) -> None:
        if self.vm is not None:
            self.wizard.look(state.step_vm(self.session, step))

    def action_difference(self) -> None:
        found, view = self.found, self.query_one("#checks", LinesView)
        if isinstance(found, WizardError) or found is None:
            return
        others = [place for place, check in enumerate(found.checks) if check.expected != check.found]
        if not others:
            self.wizard.say("Everything is as planned.")
            return
        here = view.cursor if isinstance(view.cursor, int) else -1
        view.go_to(next((place for place in others if place > here), others[0]))

    def action_qemu(self) -> None:
        from wizard.rehearsal.qemu import find_qemu

        def answered(path: object) -> None:
            if isinstance(path, str):
                self.qemu = None if path.strip() == find_qemu() else path.strip() or None
                self.wizard.results.rehearsals.clear()
                self.update()

        note = "A qemu-system-aarch64; 11.0 or later for everything, 10.2 for the topology."
        self.app.push_screen(Prompt("Rehearse in", self.qemu or find_qemu(), note=note), answered)

    def action_copy(self) -> None:
        from wizard.tui.lines import plain

        self.wizard.copy(plain(self._lines(120)))


class Status(Bar):
    """Which VM; what is being done and for how long, or what came out."""

    DEFAULT_CSS = """
    Status { background: $boost; }
    """

    def pieces(self) -> Iterable[Piece]:
        screen = self.screen
        assert isinstance(screen, RehearseScreen)
        vm, found, glyphs = screen.vm, screen.found, screen.wizard.glyphs
        if vm is None:
            return
        more = len(screen.session.vms) > 1
        yield f" {vm.name}{' v' if more else ''} ", "bold", "vm(1)" if more else None, screen
        if screen.running and screen._what is not None:
            busy = "|/-\\"[int(time.monotonic() * 4) % 4]
            other = f"{screen._what.name}: " if screen._what.name != vm.name else ""
            yield f" {busy} {other}{screen.doing} {glyphs.more} {time.monotonic() - screen._since:.0f} s", "", None, None
        elif isinstance(found, WizardError):
            yield f" {glyphs.no} not rehearsed", "bold", None, None
        elif found is not None:
            passed = sum(check.ok for check in found.checks)
            mark = glyphs.yes if found.ok else glyphs.no
            told = f" {mark} {passed} of {plural(len(found.checks), 'check')} as planned, in QEMU {found.version or ''}"
            yield told.rstrip(), "" if found.ok else "bold", "difference", screen
