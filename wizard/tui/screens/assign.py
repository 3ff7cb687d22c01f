"""Giving functions to a VM: what comes along, what stands against it, and which VM, before anything is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wizard.base.finding import Finding, Severity
from wizard.base.text import plural
from wizard.host.model import Accel, Host
from wizard.plan.planner import make_plan
from wizard.tui import state
from wizard.tui.lines import ACCEL_ROLE, BLANK, Line, accel_word, finding_lines, heading, line
from wizard.tui.rows import comes_along
from wizard.tui.screens.dialogs import Choose, Prompt

if TYPE_CHECKING:
    from wizard.base.glyphs import Glyphs
    from wizard.tui.state import Session
    from wizard.tui.wizard import Wizard

NEW = ("new",)  # the key of "a new VM": no VM can be called that
TRIED = 8  # VMs up to which each is tried
AT_ONCE = 100  # functions in all trial plans together up to which they are made while the key waits
FEW = 16  # functions that are given without a question where the VM is known
SHOWN = 6  # functions listed by name


def objections(host: Host, session: Session, name: str, addresses: Sequence[str]) -> list[Finding]:
    """What the planner finds wrong with giving these functions to a VM, that it did not find before."""
    before = set(make_plan(host, session.request()).findings) if session.vms else set()
    base = session if session.get(name) else state.add_vm(session, name)
    after = make_plan(host, state.assign(base, name, addresses).request())
    return [finding for finding in after.findings if finding not in before and finding.severity is Severity.ERROR]


def assign_functions(app: Wizard, chosen: Sequence[str], *, done: Callable[[], None] = lambda: None, to: str | None = None) -> None:
    """Ask which VM, showing what comes along; then do it."""
    host, session = app.host, app.session
    along = [other for address in chosen for other in comes_along(host, address) if other not in chosen]
    wanted = [*chosen, *dict.fromkeys(along)]

    def give(name: str, base: Session) -> None:
        app.do(f"give {', '.join(wanted[:3])}{' …' if len(wanted) > 3 else ''} to {name}", state.assign(base, name, wanted))
        done()
        app.say(f"{name} has {plural(len(app.session.get(name).functions), 'function')} now." if app.session.get(name) else "")  # type: ignore[union-attr]

    def named(name: object) -> None:
        if isinstance(name, str):
            give(name, state.add_vm(session, name))

    def answered(key: object) -> None:
        if key == NEW:
            app.push_screen(
                Prompt("Name of the new VM", state.free_name(session), check=lambda text: state.name_problem(session, text)),
                named,
            )
        elif isinstance(key, str):
            give(key, session)

    def ask(found: dict[str, list[Finding]], new: list[Finding]) -> None:
        build = _Question(host, session, chosen, wanted, found, new, app.glyphs)
        app.push_screen(Choose(f"Give {plural(len(wanted), 'function')} to a VM", build, start=to or session.current or NEW), answered)

    def tried() -> tuple[dict[str, list[Finding]], list[Finding]]:
        found = {vm.name: objections(host, session, vm.name, wanted) for vm in session.vms} if len(session.vms) <= TRIED else {}
        return found, objections(host, session, state.free_name(session), wanted)

    # Where the VM is known already nothing is asked, if nothing comes along and nothing stands against it.
    plain = to is not None and not along and len(wanted) <= FEW and app.few and not any(session.owner(one) for one in wanted)
    if plain and to is not None and not objections(host, session, to, wanted):
        give(to, session)
        return
    if (len(wanted) + sum(len(vm.functions) for vm in session.vms)) * (len(session.vms) + 1) <= AT_ONCE:
        ask(*tried())
        return
    # Trial plans of many functions take longer than a key may wait.
    app.say(f"Planning with {plural(len(wanted), 'function')} …")
    app.run_worker(lambda: app.call_from_thread(ask, *tried()), thread=True, exclusive=True, group="assign")


class _Question:
    """The lines of the question."""

    def __init__(
        self,
        host: Host,
        session: Session,
        chosen: Sequence[str],
        wanted: Sequence[str],
        found: dict[str, list[Finding]],
        new: list[Finding],
        glyphs: Glyphs,
    ) -> None:
        self.host, self.session, self.chosen, self.wanted, self.found, self.new, self.glyphs = host, session, chosen, wanted, found, new, glyphs

    def __call__(self, width: int) -> list[Line]:
        """Functions, VMs, and what is wrong in any case."""
        lines = [
            line((f"  {vm.name}", "bold"), f"  {plural(len(vm.functions), 'function')}", self._fits(self.found.get(vm.name)), key=vm.name)
            for vm in self.session.vms
        ]
        lines.append(line((f"  {self.glyphs.new} a new VM", "bold"), self._fits(self.new), key=NEW))
        lines += [BLANK, heading("Functions")]
        for address in self.wanted[:SHOWN]:
            lines.append(self._function(address))
        if len(self.wanted) > SHOWN:
            lines.append(line((f"  and {len(self.wanted) - SHOWN} more", "dim")))
        always = [finding for finding in self.new if all(finding.code in {f.code for f in found} for found in self.found.values())]
        if always:
            lines += [BLANK, heading("What stands against it")]
            for finding in always[:4]:
                lines += finding_lines(finding, width, self.glyphs)
        return lines

    def _function(self, address: str) -> Line:
        function, verdict = self.host.functions[address], self.host.verdict(address)
        owner = self.session.owner(address)
        notes = []
        if address not in self.chosen:
            notes.append("comes along: same IOMMU group")
        if owner:
            notes.append(f"in {owner} now")
        role = ACCEL_ROLE[verdict.accel] if verdict.accel is not Accel.YES or not notes else "good"
        return line(
            f"  {address} ",
            (f"{accel_word(verdict.accel, self.glyphs):<9} ", role),
            (" ".join(f"[{note}]" for note in notes) + " " if notes else "", "warn"),
            function.name,
        )

    def _fits(self, found: list[Finding] | None) -> tuple[str, str]:
        if found is None:
            return "", ""
        if not found:
            return f"  {self.glyphs.yes} fits", "good"
        return f"  {self.glyphs.no} {found[0].code}" + (f" and {len(found) - 1} more" if len(found) > 1 else ""), "bad"
