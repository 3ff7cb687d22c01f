"""Review: what is found about all VMs, and the texts that they come to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from wizard.base.errors import WizardError
from wizard.base.finding import Item, grouped
from wizard.plan.model import VmPlan
from wizard.tui import state
from wizard.tui.formats import FORMATS, Format, command_of, diff_lines, highlighted, text_of
from wizard.tui.lines import Line, cut, line, wrap
from wizard.tui.mending import ask_to_mend
from wizard.tui.screens.found import FoundScreen
from wizard.tui.widgets.bars import Bar, Piece
from wizard.tui.widgets.findings import Findings
from wizard.tui.widgets.lines import LinesView

DIFF = Format("diff", "diff", "", "")


class ReviewScreen(FoundScreen):
    """Findings above, texts below."""

    SCREEN = "review"
    ENTER = "To the field"
    ABOUT = """\
Above is what the planner finds about all VMs, errors first, one row for one cause: f fixes it as the row says, for everything that
it was found on; enter goes to the field that causes it, e explains it whole. Below is what a VM comes to: its profile (TOML), the QEMU
command line, libvirt XML, the preparation script, the QMP commands that plug into free ports, and the difference between the profile
and the file on disk.

m mends what a rule alone can mend: the original beside the mended VM, error by error, and taken only when you say so. left and
right take another text, v another VM. c sends the text to the terminal's clipboard, s saves it alone, 4 writes everything."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "format(1)", "Next text", key_display="←→", id="next-text"),
        Binding("left,h", "format(-1)", "Previous text", show=False, id="previous-text"),
        Binding("v", "vm(1)", "Next VM", id="next-vm"),
        Binding("V", "vm(-1)", "Previous VM", show=False, id="previous-vm"),
        Binding("c", "copy", "Copy", id="copy-text"),
        Binding("s", "save", "Save this", id="save-text"),
        Binding("m", "mend", "Mend all", id="mend"),
        Binding("e", "explain", "Explain", id="explain"),
        Binding("w", "app.go('export')", "Export", id="to-export"),
    ]
    DEFAULT_CSS = """
    ReviewScreen {
        #findings { height: auto; min-height: 1; max-height: 30%; background: $surface; }
        #text { height: 1fr; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.format = FORMATS[0]
        self._texts: dict[tuple[str, str], str] = {}
        self._texts_of: object = None

    def body(self) -> Iterable[Widget]:
        yield Findings()
        yield Choices()
        yield LinesView(id="text", classes="first", wide=True)

    def command(self) -> str:
        vm = self.vm
        return command_of("toml" if self.format is DIFF else self.format.name, vm.name) if vm else "check PROFILE"

    @property
    def vm(self) -> VmPlan | None:
        """The VM whose texts are shown."""
        plan = self.wizard.plan
        if plan is None or not plan.vms:
            return None
        return next((one for one in plan.vms if one.name == self.session.current), plan.vms[0])

    def session_changed(self) -> None:
        if self.wizard.plan is not None:
            self.wizard.results.seen = self.wizard.plan.findings
        self.tell_findings()
        self.query_one(Choices).refresh()
        self.query_one("#text", LinesView).show(self._text_lines)

    def items(self) -> tuple[Item, ...]:
        """Of all VMs."""
        return grouped(self.wizard.plan.findings) if self.wizard.plan else ()

    def nothing(self) -> Line:
        """Of a plan, or of none."""
        if not self.session.vms:
            return line(("Nothing is planned yet: give functions to a VM on 1 Host.", "dim"))
        return line((f"{self.wizard.glyphs.yes} Nothing is found against this plan.", "good"))

    def text(self, format: Format) -> str:
        """What the VM in hand comes to in one format. ``WizardError`` where the format can't carry it."""
        vm, plan = self.vm, self.wizard.plan
        assert vm is not None
        assert plan is not None
        if self._texts_of is not plan:
            self._texts_of, self._texts = plan, {}
        key = (vm.name, format.name)
        if key not in self._texts:
            old = self.wizard.on_disk(vm.name) if format.name == "toml" else None
            self._texts[key] = text_of(format.name, self.wizard.host, plan, vm, old=old)
        return self._texts[key]

    def _text_lines(self, width: int) -> list[Line]:
        vm = self.vm
        if vm is None:
            return []
        try:
            if self.format is DIFF:
                return self._diff(vm, width)
            text = self.text(self.format)
        except WizardError as error:
            return [*wrap(error.what, width, "bad"), *wrap(error.fix, width)]
        return highlighted(text, self.format.lexer) or [line(("This VM needs none.", "dim"))]

    def _diff(self, vm: VmPlan, width: int) -> list[Line]:
        path = self.session.file_of(vm.name)
        if path is None:
            return list(wrap(f"{vm.name} is not on disk yet: it was neither opened from a file nor exported.", width, "dim"))
        old = self.wizard.read_text(path)
        if old is None:
            return list(wrap(f"{path} is not there any more.", width, "warn"))
        return list(diff_lines(old, self.text(FORMATS[0]), path)) or [line((f"{path} is as planned.", "good"))]

    # Actions.

    def go_on(self) -> None:
        """Errors stand in the way: to them."""
        self.query_one(Findings).focus()
        self.wizard.say("f does what the row says, enter goes to the field.")

    def action_format(self, step: int) -> None:
        every = (*FORMATS, DIFF)
        self.format = every[(every.index(self.format) + step) % len(every)]
        view = self.query_one("#text", LinesView)
        view.scroll_to(0, 0, animate=False)
        self.update()

    def action_to_format(self, name: str) -> None:
        """By mouse."""
        self.format = next(one for one in (*FORMATS, DIFF) if one.name == name)
        self.update()

    def action_vm(self, step: int) -> None:
        if self.vm is not None:
            self.wizard.look(state.step_vm(self.session, step))

    def action_copy(self) -> None:
        from wizard.tui.lines import plain

        if self.vm is None:
            return
        try:
            self.wizard.copy(plain(self._text_lines(200)) if self.format is DIFF else self.text(self.format))
        except WizardError as error:
            self.wizard.say(error, "error")

    def action_save(self) -> None:
        vm = self.vm
        if vm is None or self.format is DIFF:
            return
        from wizard.tui.screens.saving import ask_and_write

        try:
            text = self.text(self.format)
        except WizardError as error:
            self.wizard.say(error, "error")
            return
        ask_and_write(self.wizard, f"{vm.name}{self.format.suffix}", text, script=self.format.script)

    @on(LinesView.Chosen, "#text")
    def _to_cause(self) -> None:
        # The screen begins in its text: the finding that is marked above it is meant.
        item = self.query_one(Findings).item
        if item is not None:
            self.go_to_cause(item.finding)

    def action_mend(self) -> None:
        if self.vm is not None:
            ask_to_mend(self.wizard, self.vm)


class Choices(Bar):
    """Which VM, and which text."""

    DEFAULT_CSS = """
    Choices { background: $boost; }
    """

    def pieces(self) -> Iterable[Piece]:
        screen = self.screen
        assert isinstance(screen, ReviewScreen)
        vm = screen.vm
        if vm is None:
            return
        more = len(screen.session.vms) > 1
        yield f" {cut(vm.name, min(len(vm.name), 20))}{' v' if more else ''} ", "bold", "vm(1)" if more else None, screen
        yield " ", "", None, None
        for one in (*FORMATS, DIFF):
            yield f" {one.label} ", "reverse bold" if one is screen.format else "", f"to_format('{one.name}')", screen
