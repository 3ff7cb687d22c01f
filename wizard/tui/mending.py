"""Mending a VM in the wizard: the original beside the mended one, finding by finding; taken into the session only when said so."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from wizard.base.action import on_screen
from wizard.base.errors import WizardError
from wizard.base.glyphs import Glyphs
from wizard.base.text import plural
from wizard.plan.model import VmPlan
from wizard.tui import state
from wizard.tui.lines import BLANK, Line, cut, heading, line, wrap

if TYPE_CHECKING:
    from wizard.mend import Change, Mended
    from wizard.tui.wizard import Wizard

Step = tuple["Change", str, str]


def ask_to_mend(app: Wizard, vm: VmPlan) -> None:
    """Mend a VM of the session in a worker, and show what that comes to."""
    from wizard.existing.load import open_text
    from wizard.mend import mend
    from wizard.profile import write_profile

    host, request = app.host, vm.request

    def work() -> None:
        steps: list[Step] = []

        def step(change: Change, before: Mapping[str, str], after: Mapping[str, str]) -> None:
            steps.append((change, before[name], after[name]))

        name = f"{vm.name}.toml"
        try:
            mended = mend(host, {name: write_profile(request)}, open_text, step=step)
        except WizardError as error:
            app.call_from_thread(app.say, error, "error")
            return
        app.call_from_thread(_show, app, vm, mended, steps)

    app.run_worker(work, thread=True, exclusive=True, group="mend")


def _show(app: Wizard, vm: VmPlan, mended: Mended, steps: list[Step]) -> None:
    from wizard.tui.screens.dialogs import Choose

    items = [("take", f"Take the mended {vm.name} into the session"), ("leave", "Leave it as it is")] if steps else [("leave", "Back")]

    def build(width: int) -> list[Line]:
        return [*mended_lines(mended, steps, width, app.glyphs), *(line(f"  {label}", key=key) for key, label in items)]

    def answered(value: object) -> None:
        if value == "take":
            app.do(f"mend {vm.name}", state.change_vm(app.session, vm.name, lambda _: mended.vms[0]))

    app.push_screen(Choose("Mend", build, start="leave"), answered)


def mended_lines(mended: Mended, steps: list[Step], width: int, glyphs: Glyphs) -> Iterator[Line]:
    """Each mend with the lines that it changes: as they were on the left, as they are on the right; then what is left."""
    for change, before, after in steps:
        yield from wrap(on_screen(change.finding.what), width, "bad")
        yield from wrap(change.does, width, "dim")
        yield from beside(before, after, width, glyphs)
        yield BLANK
    if mended.left:
        yield heading(f"{plural(len(mended.left), 'error')} that no rule mends")
        for one in mended.left:
            yield from wrap(on_screen(one.finding.what), width)
            yield from wrap(one.because, width, "dim")
        yield BLANK
    elif not steps:
        yield line(("There is nothing to mend: no error is found against this VM.", "good"))
        yield BLANK


def beside(before: str, after: str, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """The lines that differ, the old ones beside the new ones."""
    old, new = before.splitlines(), after.splitlines()
    half = max(10, (width - 3) // 2)
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for place in range(max(b - a, d - c)):
            left = old[a + place] if a + place < b else ""
            right = new[c + place] if c + place < d else ""
            yield line((cut(left, half, glyphs.more), "remove"), f" {glyphs.separator} ", (cut(right, half, glyphs.more).rstrip(), "add"))
