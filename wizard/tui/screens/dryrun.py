"""Dry run: the plan on the simulated SMMU, as a matrix whose cells open their trace."""

from __future__ import annotations

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
from wizard.dryrun.cost import Workload
from wizard.dryrun.model import Cancelled, Cell, Cost, Report, ScenarioView, Status
from wizard.picture.isolationtext import draw_spaces, draw_writable, told_bits, told_command, told_frames, told_part
from wizard.picture.pieces import Drawing
from wizard.picture.walk import walk_of_situation, walks_of
from wizard.plan.model import Plan
from wizard.tui.dryrun_lines import cell_lines, cost_lines, matrix_lines, proof_lines, slid, slider_lines
from wizard.tui.lines import BLANK, Line, item_lines, labelled, line
from wizard.tui.screens.base import WizardScreen
from wizard.tui.screens.dialogs import Prompt, Read
from wizard.tui.screens.walk import WalkScreen
from wizard.tui.widgets.bars import Bar, Piece
from wizard.tui.widgets.lines import LinesView
from wizard.tui.widgets.picture import PictureView

if TYPE_CHECKING:
    from wizard.picture.space import Spaces
    from wizard.picture.writable import Writable

VIEWS = ("scenarios", "isolation", "addresses", "writable", "cost", "findings")
DRAWN = ("addresses", "writable")  # the views that are pictures


class DryRunScreen(WizardScreen):
    """Scenarios by functions, isolation, cost."""

    SCREEN = "dryrun"
    ENTER = "Trace"
    ABOUT = """\
The plan on a simulated SMMUv3: what every function will reach, and what happens when a guest does something wrong. Each row is a
scenario, each column an assigned function; a tick passed, a cross failed, a dash does not apply. The sentence below says who
stopped a wrong access: hardware, kernel, QEMU or nobody.

Up and down choose the scenario, left and right the function, enter opens the trace: a walk to step through, every word by its
fields, the fault where it happens and the event record beside it. t tries an address of your own, s runs it again or stops it.

v goes on: the isolation proof; the address space of every VM, with what its functions reach and whose frames of the host stand
behind it; what a guest may write, bit by bit and command by command; the cost, whose workload ← and → change; the findings."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Run/stop", id="run"),
        Binding("v", "view(1)", "Next view", id="next-view"),
        Binding("V", "view(-1)", "Previous view", show=False, id="previous-view"),
        Binding("left,h", "function(-1)", "Previous function", show=False, id="previous-function"),
        Binding("right,l", "function(1)", "Next function", key_display="←→", id="next-function"),
        Binding("t", "try", "Try an address", id="try-address"),
        Binding("n", "failure", "Next failure", id="next-failure"),
        Binding("c", "copy", "Copy", show=False, id="copy-view"),
    ]
    DEFAULT_CSS = """
    DryRunScreen {
        #matrix { height: 1fr; }
        #picture { height: 1fr; display: none; }
        #cell { height: 4; background: $surface; }
        &.-tiny #cell, &.-short #cell { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.report: Report | None = None
        self.view_name = VIEWS[0]
        self.progress: tuple[int, int, str] = (0, 0, "")
        self._of: Plan | None = None
        self._column = 0
        self._worker: Worker[None] | None = None
        self._clock: Timer | None = None
        self._drawn_view = ""
        self.workload = Workload()
        self._costs: tuple[Cost, ...] | None = None  # on another workload than the report's
        self._scale: dict[str, float] = {}
        self._drawn_of: Plan | None = None
        self._made_spaces: Spaces | None = None
        self._made_writable: Writable | None = None

    def body(self) -> Iterable[Widget]:
        yield Progress()
        yield LinesView(id="matrix", classes="first")
        yield PictureView(id="picture")
        yield LinesView(id="cell")

    def command(self) -> str:
        import shlex

        return "dry-run " + (" ".join(shlex.quote(f"{vm.name}.toml") for vm in self.session.vms) or "PROFILE")

    def go_on(self) -> None:
        """Stopped: run it again. Else show what failed."""
        if self.running:
            self.wizard.say("The dry run is still running; s stops it.")
        elif self.report is None:
            self.action_start()
        elif self.report is not None:
            self.action_to_view(VIEWS[0] if any(True for _ in self.report.failures()) else "isolation")

    # Running.

    @property
    def running(self) -> bool:
        """Whether a worker is at it."""
        return self._worker is not None and self._worker.is_running

    def action_start(self) -> None:
        if self.running and self._worker is not None:
            self._worker.cancel()
            return
        self._of = self.wizard.plan
        self.report = None
        if self._of is None:
            self.update()
            return
        plan = self._of
        self.progress = (0, 1, "starting")
        self._worker = self.run_worker(lambda: self._run(plan), thread=True, exclusive=True)
        # The worker only writes down how far it is; the screen looks at it ten times a second.
        self._clock = self.set_interval(0.1, self._look)
        self.update()

    def _run(self, plan: Plan) -> None:
        from wizard.dryrun import dry_run

        worker = get_current_worker()

        def progress(done: int, total: int, label: str) -> None:
            self.progress = (done, total, label)

        try:
            report = dry_run(plan, self.wizard.host, progress=progress, stop=lambda: worker.is_cancelled)
        except Cancelled:
            return
        except WizardError as error:
            self.app.call_from_thread(self.wizard.say, error, "error")
            return
        self.app.call_from_thread(self._reported, plan, report)

    def _reported(self, plan: Plan, report: Report) -> None:
        if plan is self._of:
            self.report = report
            self._costs, self.workload, self._scale = None, Workload(), {}
            self.wizard.results.dry_run = plan, report
            self.wizard.tried()
            self._column = min(self._column, max(0, len(report.functions) - 1))

    def _look(self) -> None:
        self.query_one(Progress).refresh()
        if not self.running and self._clock is not None:
            self._clock.stop()
            self._clock = None
            self.update()

    # Drawing.

    def session_changed(self) -> None:
        if self.wizard.plan is not self._of and not self.running:
            self.action_start()
            return
        self.query_one(Progress).refresh()
        matrix, picture = self.query_one("#matrix", LinesView), self.query_one("#picture", PictureView)
        drawn = self.view_name in DRAWN and self.report is not None and self.report.rehearsed
        self.query_one("#cell").display = self.view_name == VIEWS[0] or drawn
        if drawn is not picture.display:
            picture.display, matrix.display = drawn, not drawn
            self.set_focus(picture if drawn else matrix)
        if drawn:
            picture.draw(self._drawing, top=self._drawn_view != self.view_name)
            self._drawn_view = self.view_name
        else:
            matrix.show(self._lines)
        self._tell()

    def _drawing(self, width: int) -> Drawing:
        glyphs = self.wizard.glyphs
        return draw_spaces(self._spaces(), width, glyphs) if self.view_name == "addresses" else draw_writable(self._writable(), width, glyphs)

    def _spaces(self) -> Spaces:
        from wizard.dryrun.build import lay_out, playable
        from wizard.picture.space import spaces

        plan = self._of
        assert plan is not None
        if self._drawn_of is not plan or self._made_spaces is None:
            self._drawn_of, self._made_spaces = plan, spaces(lay_out(playable(plan) or plan, self.wizard.host))
        return self._made_spaces

    def _writable(self) -> Writable:
        from wizard.picture.writable import writable

        if self._made_writable is None:
            self._made_writable = writable()
        return self._made_writable

    def _told(self, key: object) -> tuple[str, list[tuple[str, str]]]:
        """What stands behind a piece of a picture: a title, and labelled words."""
        glyphs = self.wizard.glyphs
        match key:
            case ("bits", int(lo)):
                return "Bits of an entry", list(told_bits(next(one for one in self._writable().bits if one.lo == lo), glyphs))
            case ("command", int(opcode)):
                return "A command", list(told_command(next(one for one in self._writable().commands if one.opcode == opcode), glyphs))
            case ("part", str(vm), int(start)):
                space = next(one for one in self._spaces().vms if one.vm == vm)
                return "Addresses", list(told_part(next(part for part in space.parts if part.start == start), space))
            case ("frames", int(start)):
                picture = self._spaces()
                return "Frames of the host", list(told_frames(next(one for one in picture.frames if one.start == start), picture))
        return "", []

    def _lines(self, width: int) -> list[Line]:
        glyphs, report = self.wizard.glyphs, self.report
        if self.wizard.plan is None:
            return [line(("Nothing is planned yet: give functions to a VM on 1 Host.", "dim"))]
        if report is None:
            return [] if self.running else [line(("Stopped. s runs it again.", "warn"))]
        if not report.rehearsed:
            lines = [line(("The plan has errors: it is not played.", "bad")), BLANK]
            return [*lines, *(one for item in grouped(report.findings) for one in (*item_lines(item, width, glyphs), BLANK))]
        if self.view_name == "isolation":
            return proof_lines(report.proofs, width, glyphs)
        if self.view_name == "cost":
            sliders = slider_lines(self.workload, glyphs) if report.costs else []
            return [*sliders, *cost_lines(report.costs if self._costs is None else self._costs, width, glyphs, self._scale)]
        if self.view_name == "findings":
            found = [one for item in grouped(report.findings) for one in (*item_lines(item, width, glyphs), BLANK)]
            assumed = [line(("Assumed", "head")), *(line(f"  {text}") for text in report.assumptions)] if report.assumptions else []
            return [*found, *assumed] or [line((f"{glyphs.yes} Nothing is found.", "good"))]
        return matrix_lines(report, self._column, width, glyphs)

    def _chosen(self) -> tuple[Cell | None, ScenarioView | None]:
        key, report = self.query_one("#matrix", LinesView).cursor, self.report
        if report is None or not report.functions or not isinstance(key, str):
            return None, None
        function = report.functions[self._column]
        view = next((one for one in report.scenarios if one.id == key), None)
        cell = next((one for one in report.cells if (one.vm, one.function, one.scenario) == (function.vm, function.function, key)), None)
        return cell, view

    def _tell(self) -> None:
        glyphs = self.wizard.glyphs
        picture = self.query_one("#picture", PictureView)
        if picture.display:
            key = picture.cursor
            self.query_one("#cell", LinesView).show(lambda width: list(labelled(self._told(key)[1], width)), top=True)
            return
        cell, view = self._chosen()

        def build(width: int) -> list[Line]:
            return list(cell_lines(cell, view, width, glyphs)) if view is not None else []

        self.query_one("#cell", LinesView).show(build, top=True)

    @on(LinesView.Moved, "#matrix")
    @on(LinesView.Moved, "#picture")
    def _moved(self) -> None:
        self._tell()

    @on(LinesView.Chosen, "#picture")
    def _open_piece(self, event: LinesView.Chosen) -> None:
        title, rows = self._told(event.key)
        if rows:
            self.app.push_screen(Read(title, lambda width: list(labelled(rows, width))))

    # Actions.

    @on(LinesView.Chosen, "#matrix")
    def _open(self) -> None:
        cell, view = self._chosen()
        plan = self._of
        if cell is None or view is None or plan is None:
            return
        self.run_worker(lambda: self._trace(plan, cell, view), thread=True, exclusive=True, group="trace")

    def _trace(self, plan: Plan, cell: Cell, view: ScenarioView) -> None:
        from wizard.dryrun import trace_of

        found = trace_of(plan, self.wizard.host, cell.function, cell.scenario)
        glyphs = self.wizard.glyphs

        walks = walks_of(view.title, found.trace)
        shown = WalkScreen(f"{view.title}: {cell.function}", walks, glyphs, head=lambda width: list(cell_lines(found, view, width, glyphs)))
        self.app.call_from_thread(self.app.push_screen, shown)

    def action_try(self) -> None:
        plan, report = self._of, self.report
        if plan is None or report is None or not report.functions:
            return
        function = report.functions[self._column].function

        def check(text: str) -> str | None:
            try:
                return None if 0 <= int(text, 0) < 1 << 64 else "An address of 64 bits."
            except ValueError:
                return "An address, for example 0x40000000."

        def answered(text: object) -> None:
            if isinstance(text, str):
                self.run_worker(lambda: self._try(plan, function, int(text, 0)), thread=True, exclusive=True, group="trace")

        note = f"Read and written by {function}, before and under the guest's stage 1."
        self.app.push_screen(Prompt("Try an address", "0x40000000", note=note, check=check), answered)

    def _try(self, plan: Plan, function: str, iova: int) -> None:
        from wizard.dryrun import trace_address

        try:
            trace = trace_address(plan, self.wizard.host, function, iova)
        except WizardError as error:
            self.app.call_from_thread(self.wizard.say, error, "error")
            return
        walks = [walk_of_situation(trace.function, trace.iova, one) for one in trace.situations]
        self.app.call_from_thread(self.app.push_screen, WalkScreen(f"{function}@{iova:#x}", walks, self.wizard.glyphs))

    def action_function(self, step: int) -> None:
        key = self.query_one("#matrix", LinesView).cursor
        if self.view_name == "cost" and isinstance(key, str) and key.startswith("slider/"):
            self._slide(key.partition("/")[2], step)
        elif self.report is not None and self.report.functions and self.view_name == "scenarios":
            self._column = (self._column + step) % len(self.report.functions)
            self.update()

    def _slide(self, name: str, step: int) -> None:
        """Another figure of the workload: the bars follow."""
        plan, workload = self._of, slid(self.workload, name, step)
        if plan is None or workload == self.workload:
            return
        self.workload = workload
        self.run_worker(lambda: self._count(plan, workload), thread=True, exclusive=True, group="cost")
        self.update()

    def _count(self, plan: Plan, workload: Workload) -> None:
        from wizard.dryrun import count_again

        worker, costs = get_current_worker(), count_again(plan, self.wizard.host, workload)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._counted, plan, costs)

    def _counted(self, plan: Plan, costs: tuple[Cost, ...]) -> None:
        if plan is self._of:
            self._costs = costs
            self.update()

    def action_view(self, step: int) -> None:
        self.action_to_view(VIEWS[(VIEWS.index(self.view_name) + step) % len(VIEWS)])

    def action_to_view(self, name: str) -> None:
        """By mouse."""
        self.view_name = name
        self.query_one("#matrix", LinesView).scroll_to(0, 0, animate=False)
        self.update()

    def action_failure(self) -> None:
        report, view = self.report, self.query_one("#matrix", LinesView)
        if report is None:
            return
        failed = [
            (cell.scenario, number)
            for cell in report.failures()
            for number, one in enumerate(report.functions)
            if (one.vm, one.function) == (cell.vm, cell.function)
        ]
        if not failed:
            self.wizard.say("No scenario failed.")
            return
        here = (view.cursor, self._column)
        place = failed.index(here) if here in failed else -1
        scenario, self._column = failed[(place + 1) % len(failed)]
        self.view_name = VIEWS[0]
        self.update()
        view.go_to(scenario)

    def action_copy(self) -> None:
        from wizard.tui.lines import plain

        self.wizard.copy(plain(self._lines(120)))


class Progress(Bar):
    """How far the run is; then what came out, the views, and which function the chosen column is."""

    DEFAULT_CSS = """
    Progress { background: $boost; }
    """

    def pieces(self) -> Iterable[Piece]:
        screen = self.screen
        assert isinstance(screen, DryRunScreen)
        glyphs = screen.wizard.glyphs
        if screen.running:
            done, total, label = screen.progress
            long = round(20 * done / max(1, total))
            yield f" {glyphs.bar * long}{glyphs.track * (20 - long)} {done}/{total} ", "bold", None, None
            yield label, "", None, None
            return
        report = screen.report
        if report is None or not report.rehearsed:
            return
        for name in VIEWS:
            # Where it is narrow the one that is shown has its name whole.
            label = name if self.size.width >= 110 or name == screen.view_name else name[:4]
            yield f" {label} ", "reverse bold" if name == screen.view_name else "", f"to_view('{name}')", screen
        if report.not_played:
            yield f" {glyphs.no} not played: {', '.join(report.not_played)} ", "bold", "to_view('findings')", screen
        failed = sum(1 for _ in report.failures())
        passed = sum(cell.status is Status.PASSED for cell in report.cells)
        yield f"  {passed} passed, ", "", None, None
        yield f"{failed} failed", "bold" if failed else "", "failure", screen
        function = report.functions[screen._column] if report.functions else None
        if function is not None:
            yield (
                f"  {screen._column + 1} of {plural(len(report.functions), 'function')}: {function.function} in {function.vm}",
                "",
                "function(1)",
                screen,
            )
