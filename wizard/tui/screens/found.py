"""A screen with findings: one list, one order, and the same keys for them wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType

from wizard.base.finding import Finding, Item
from wizard.base.text import plural
from wizard.tui import state
from wizard.tui.fixing import fix, offered
from wizard.tui.lines import BLANK, Line, item_lines, line
from wizard.tui.screens.base import WizardScreen
from wizard.tui.widgets.findings import Findings


class FoundScreen(WizardScreen):
    """``items`` are the causes that it shows."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f", "fix", "Fix", id="fix")]

    def items(self) -> tuple[Item, ...]:
        """What is found."""
        return ()

    def nothing(self) -> Line:
        """The line where there is nothing."""
        return line("")

    def tell_findings(self) -> None:
        """The list as it is now."""
        self.query_one(Findings).tell(self.items(), self.wizard.glyphs, self.nothing(), self.key_of("fix"))

    def action_fix(self) -> None:
        """The marked cause; from another pane the first that has a fix, where the marked one has none."""
        view = self.query_one(Findings)
        item = view.item
        if self.focused is not view and item is not None and offered(item) is None:
            item = next((one for one in view.items if offered(one) is not None), item)
        if item is None:
            self.wizard.say("Nothing is found: there is nothing to fix.")
        else:
            fix(self.wizard, item)

    def explained(self) -> tuple[str, Callable[[int], list[Line]]]:
        """The marked cause whole; from another pane all of them."""
        view, glyphs = self.query_one(Findings), self.wizard.glyphs
        shown = [view.item] if self.focused is view and view.item is not None else list(view.items)

        def build(width: int) -> list[Line]:
            return [one for item in shown for one in (*item_lines(item, width, glyphs), BLANK)] or [line("Nothing is found.")]

        return plural(len(shown), "cause"), build

    @on(Findings.Chosen, "#findings")
    def _to_the_cause(self) -> None:
        item = self.query_one(Findings).item
        if item is not None:
            self.go_to_cause(item.finding)

    def go_to_cause(self, finding: Finding) -> None:
        """To the field that a finding comes from, in the VM that has it."""
        plan = self.wizard.plan
        holders = [vm.name for vm in plan.vms if finding in vm.findings] if plan is not None else []
        wanted = finding.action.vm if finding.action is not None else ""
        if (wanted or holders) and self.session.current not in (wanted, *holders):
            self.wizard.look(state.select(self.session, wanted or holders[0]))
        if self.SCREEN == "vms":
            self.show_cause(finding)
            return
        self.wizard.action_go("vms")

        def there() -> None:
            screen = self.app.screen
            if isinstance(screen, FoundScreen):
                screen.update()
                screen.show_cause(finding)

        self.app.call_after_refresh(there)

    def show_cause(self, finding: Finding) -> None:
        """Put the cursor on what a finding comes from, on the screen that has the fields."""
