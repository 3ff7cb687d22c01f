"""VMs: make, name, clone and remove them; every field of the one in hand; what is found about it, live."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from wizard.base.address import Address
from wizard.base.finding import Finding, Item
from wizard.plan.request import VmRequest
from wizard.tui import state
from wizard.tui.commands import plan_words
from wizard.tui.fields import Field, field_of, fields_of, move_function, remove_field
from wizard.tui.fields.shares import bar
from wizard.tui.fields.vsmmus import PROPERTIES
from wizard.tui.fixing import items_of
from wizard.tui.lines import BLANK, Line, Span, cut, heading, line, severity_mark
from wizard.tui.lines import SEVERITY_ROLE as ROLE
from wizard.tui.rows import is_address
from wizard.tui.screens.dialogs import Choose, Prompt, choices
from wizard.tui.screens.found import FoundScreen
from wizard.tui.widgets.findings import Findings
from wizard.tui.widgets.lines import LinesView


class VmsScreen(FoundScreen):
    """The VMs at the left, the fields of one in the middle, findings below."""

    SCREEN = "vms"
    ENTER = "Edit"
    ABOUT = """\
The VMs that you plan. At the left the VMs, at the right every field of the one in hand, below what the planner finds about it
while you change it. tab goes from one to the next.

m asks for memory, c for CPUs, + and - take the next sensible step of what is under the cursor. The bar beside it is what the host
has: this VM, the other VMs, what the host itself uses, and what is free. a opens the functions that the VM can be given.

enter edits a field or opens what is under a function, the properties or a vSMMU; space takes the next of its values. A property that
reads default takes the richest value that its SMMU is known to have, written out; auto leaves it to QEMU, and the note says what it
will come to.

f fixes the finding that is marked, as its row says: one step, which u undoes. enter on a finding goes to the field that causes it,
e explains it whole."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "amount('memory')", "Memory", id="memory"),
        Binding("c", "amount('cpus')", "CPUs", id="cpus"),
        Binding("a", "assign", "Give", id="give-functions"),
        Binding("n", "new", "New VM", id="new-vm"),
        Binding("plus,equals_sign", "more(1)", "More", key_display="+", show=False, id="more"),
        Binding("minus,underscore", "more(-1)", "Less", key_display="-", show=False, id="less"),
        Binding("A", "by_address", "Give by address", show=False, id="give-by-address"),
        Binding("x,delete", "remove", "Take away", id="remove"),
        Binding("r", "rename", "Rename", show=False, id="rename"),
        Binding("d", "clone", "Clone", id="clone"),
        Binding("D", "remove_vm", "Remove VM", show=False, id="remove-vm"),
        Binding("space", "next_value", "Next value", id="next-value"),
        Binding("F", "findings", "To the findings", show=False, id="to-findings"),
        Binding("o", "open", "Open profile", id="open-profile"),
        Binding("K,ctrl+up", "shift(-1)", "Function earlier", show=False, id="function-earlier"),
        Binding("J,ctrl+down", "shift(1)", "Function later", show=False, id="function-later"),
        Binding("v", "vm(1)", "Next VM", show=False, id="next-vm"),
        Binding("V", "vm(-1)", "Previous VM", show=False, id="previous-vm"),
        Binding("left,h", "pane('vms')", "To the VMs", show=False, id="to-vms"),
        Binding("right,l", "pane('fields')", "To the fields", show=False, id="to-fields"),
        Binding("escape", "pane('fields')", "To the fields", show=False, id="back-to-fields"),
    ]
    DEFAULT_CSS = """
    VmsScreen {
        #split { height: 1fr; }
        #vms { width: 20; }
        #fields { height: 1fr; }
        #findings { height: 6; background: $surface; }
        &.-wide #vms { width: 30; }
        &.-slim #vms { display: none; }
        &.-wide #findings { height: 12; }
        &.-tiny #findings, &.-short #findings { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._opened: frozenset[str] = frozenset()
        self._fields: dict[str, Field] = {}

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="split"):
            yield LinesView(id="vms", title="VMs")
            with Vertical():
                yield LinesView(id="fields", classes="first", title="")
        yield Findings()

    def command(self) -> str:
        return plan_words(self.session.vms, self.session.vm)

    # Drawing.

    def session_changed(self) -> None:
        self.query_one("#vms", LinesView).show(self._vm_lines)
        vm = self.session.vm
        if vm is not None:
            self.query_one("#vms", LinesView).go_to(vm.name)
        every = fields_of(self.wizard.host, vm, self.wizard.plan, self._opened, self.wizard.moment) if vm else []
        self._fields = {field.key: field for field in every if not field.fold or field.fold in self._opened}
        fields = self.query_one("#fields", LinesView)
        fields.call_it(vm.name if vm is not None else "")
        fields.show(self._field_lines)
        self.tell_findings()

    def _vm_lines(self, width: int) -> list[Line]:
        if not self.session.vms:
            return [line(("no VM yet", "dim")), line(("n makes one", "dim"))]
        lines = []
        for vm in self.session.vms:
            findings = self._findings_of(vm)
            mark, role = (" ", "")
            if findings:
                mark, role = severity_mark(findings[0].severity, self.wizard.glyphs), ROLE[findings[0].severity]
            here = vm.name == self.session.current
            count = f" {len(vm.functions)}"
            name = cut(vm.name, width - 2 - len(count), self.wizard.glyphs.more)
            lines.append(line((f"{mark} ", role), (name, "bold" if here else ""), (count, "dim"), key=vm.name))
        return lines

    def _field_lines(self, width: int) -> list[Line]:
        if self.session.vm is None:
            return [
                line(("No VM yet.", "head")),
                BLANK,
                line("  n  makes one; then a gives it functions"),
                line("  o  opens profiles that were written before"),
                line("  1  is the host: a function there, then a, makes a VM with it"),
            ]
        lines: list[Line] = []
        section, label = "", 14 if width < 70 else 18
        for field in self._fields.values():
            if field.section and field.section != section:
                section = field.section
                lines.append(heading(section))
            first = "  " * (field.depth + 1) + field.label
            spans: list[Span] = [
                (cut(first, max(label, len(first) + 1), self.wizard.glyphs.more) + " ", field.role),
                (field.value, "bold" if field.value and not field.role else field.role),
            ]
            if field.shares:
                lines += self._share_lines(field, width, spans)
                continue
            if field.note:
                room = width - sum(len(text) for text, _ in spans) - 2
                if room > 8:
                    spans.append(("  " + cut(field.note, room, self.wizard.glyphs.more).rstrip(), "dim"))
            lines.append(line(*spans, key=field.key))
        return lines

    def _share_lines(self, field: Field, width: int, spans: list[Span]) -> list[Line]:
        # The host as a whole beside the field, its nodes below: this VM, the other VMs, the host's own, free.
        used = sum(len(text) for text, _ in spans)
        start = max(used, (16 if width < 70 else 20) + 7) + 1
        long = max(8, min(40, width - start - 22))
        lines = []
        for place, share in enumerate(field.shares):
            lead: list[Span] = [*spans, (" " * (start - used), "")] if place == 0 else [(f"    {share.name}".ljust(start), "dim")]
            if start + 8 > width:
                lines.append(line(*lead, key=field.key) if place == 0 else line(*lead))
                continue
            words = cut(f" {share.words()}", max(0, width - start - long), self.wizard.glyphs.more).rstrip()
            role = "bad" if share.over else "dim"
            lines.append(line(*lead, *bar(share, long, self.wizard.glyphs), (words, role), key=field.key if place == 0 else None))
        return lines

    def _findings_of(self, vm: VmRequest | None) -> tuple[Finding, ...]:
        plan = self.wizard.plan
        if vm is None or plan is None:
            return ()
        return next((one.findings for one in plan.vms if one.name == vm.name), ())

    def items(self) -> tuple[Item, ...]:
        """Of the VM in hand, and of all together."""
        return items_of(self.wizard.plan, self.session.current)

    def nothing(self) -> Line:
        """Of a VM, or of none."""
        return line(("Nothing is found against this VM." if self.session.vm else "", "dim"))

    # What is under the cursor.

    def _field(self) -> Field | None:
        key = self.query_one("#fields", LinesView).cursor
        return self._fields.get(key) if isinstance(key, str) else None

    @on(LinesView.Moved, "#vms")
    def _other_vm(self, event: LinesView.Moved) -> None:
        if isinstance(event.key, str) and event.key != self.session.current and self.session.get(event.key):
            self._opened = frozenset()
            self.wizard.look(state.select(self.session, event.key))

    @on(LinesView.Moved, "#fields")
    def _other_field(self) -> None:
        field = self._field()
        from wizard.tui.widgets.bars import Command

        bar = self.query_one(Command)
        if field and field.about:
            bar.hint(field.about)
        else:
            bar.say(self.wizard.command_words(self.command()))

    @on(LinesView.Chosen, "#vms")
    def _into(self) -> None:
        self.query_one("#fields").focus()

    @on(LinesView.Chosen, "#fields")
    def _edit(self) -> None:
        field, vm = self._field(), self.session.vm
        if field is None or vm is None:
            return
        kind, _, rest = field.key.partition("/")
        if field.key == "functions":
            self.action_assign()
        elif field.key == "name":
            self.action_rename()
        elif field.key == PROPERTIES or (kind in ("function", "vsmmu") and "/" not in rest):
            self._opened ^= {field.key}
            self.update()
        elif field.choices:
            self._choose(field, vm)
        elif field.change is not None:
            self._ask(field, vm)

    def _choose(self, field: Field, vm: VmRequest) -> None:
        def answered(value: object) -> None:
            if isinstance(value, str):
                self._set(field, vm, value)

        items = [(choice, str(choice)) for choice in field.choices]
        self.app.push_screen(Choose(f"{vm.name}: {field.label}", choices([field.about] if field.about else [], items), start=field.value), answered)

    def _ask(self, field: Field, vm: VmRequest) -> None:
        change = field.change
        assert change is not None

        def check(text: str) -> str | None:
            try:
                change(vm, text)
            except ValueError as error:
                return str(error)
            return None

        def answered(value: object) -> None:
            if isinstance(value, str):
                self._set(field, vm, value)

        def tell(text: str) -> str:
            # What the host has then, before it is taken.
            return next((one.shares[0].whose() for one in self._with(field, vm, text) if one.shares), "")

        shown = tell if field.shares else None
        question = Prompt(f"{vm.name}: {field.label}", field.text, note=field.about, check=check, step=field.step, tell=shown)
        self.app.push_screen(question, answered)

    def _with(self, field: Field, vm: VmRequest, text: str) -> list[Field]:
        assert field.change is not None
        changed = field.change(vm, text)
        return [one for one in fields_of(self.wizard.host, changed, self.wizard.plan, moment=self.wizard.moment) if one.key == field.key]

    def _set(self, field: Field, vm: VmRequest, value: str) -> None:
        change = field.change
        assert change is not None
        self.wizard.do(f"{vm.name}: {field.label} {value}", state.change_vm(self.session, vm.name, lambda one: change(one, value)))

    # Actions.

    def action_amount(self, key: str) -> None:
        """Ask for memory or CPUs, wherever the cursor is."""
        vm, field = self.session.vm, self._fields.get(key)
        if vm is not None and field is not None:
            self.query_one("#fields", LinesView).go_to(key)
            self._ask(field, vm)

    def action_more(self, step: int) -> None:
        """A sensible step of what is under the cursor, of memory where that has none."""
        vm, field = self.session.vm, self._field()
        if field is None or field.step is None:
            field = self._fields.get("memory")
        if vm is None or field is None or field.step is None:
            return
        self.query_one("#fields", LinesView).go_to(field.key)
        self._set(field, vm, field.step(field.text, step))

    def go_on(self) -> None:
        """A VM, or functions for one that has none."""
        empty = next((vm.name for vm in self.session.vms if not vm.functions and not vm.hotplug), None)
        if empty is None:
            self.action_new()
            return
        self.wizard.look(state.select(self.session, empty))
        self.action_assign()

    def action_next_value(self) -> None:
        field, vm = self._field(), self.session.vm
        if field is None or vm is None or field.change is None or not field.choices or field.key.endswith("/new"):
            self._edit()
            return
        place = field.choices.index(field.value) if field.value in field.choices else -1
        self._set(field, vm, field.choices[(place + 1) % len(field.choices)])

    def action_vm(self, step: int) -> None:
        if self.session.vms:
            self._opened = frozenset()
            self.wizard.look(state.step_vm(self.session, step))

    def action_pane(self, name: str) -> None:
        self.query_one(f"#{name}").focus()

    def action_findings(self) -> None:
        self.query_one("#findings").focus()

    def action_new(self) -> None:
        def answered(name: object) -> None:
            if isinstance(name, str):
                self.wizard.do(f"make {name}", state.add_vm(self.session, name))
                self.query_one("#fields").focus()

        session = self.session
        self.app.push_screen(Prompt("Name of the new VM", state.free_name(session), check=lambda text: state.name_problem(session, text)), answered)

    def action_rename(self) -> None:
        vm, session = self.session.vm, self.session
        if vm is None:
            return
        old = vm.name

        def answered(name: object) -> None:
            if isinstance(name, str):
                self.wizard.do(f"rename {old} to {name}", state.rename_vm(self.session, old, name))

        self.app.push_screen(Prompt(f"New name of {old}", old, check=lambda text: state.name_problem(session, text, but=old)), answered)

    def action_clone(self) -> None:
        vm, session = self.session.vm, self.session
        if vm is None:
            return
        old = vm.name

        def answered(name: object) -> None:
            if isinstance(name, str):
                self.wizard.do(f"clone {old} as {name}", state.clone_vm(self.session, old, name))

        note = "It gets the settings. Functions and disks stay with the first: they can't be in two VMs."
        self.app.push_screen(
            Prompt(f"Clone {old} as", state.free_name(session, f"{old}-"), note=note, check=lambda text: state.name_problem(session, text)), answered
        )

    def action_remove_vm(self) -> None:
        vm = self.session.vm
        if vm is not None:
            self.wizard.do(f"remove {vm.name}", state.remove_vm(self.session, vm.name))
            self.wizard.say(f"Removed {vm.name}; u brings it back.")

    def action_remove(self) -> None:
        vm, field = self.session.vm, self._field()
        if vm is None:
            return
        if self.focused is self.query_one("#vms"):
            self.action_remove_vm()
            return
        less = remove_field(vm, field.key) if field else None
        if less is None or less == vm:
            self.wizard.say("There is nothing to take away here: choose a function, a disk, a network or a port. D removes the VM.", "warning")
            return
        self.wizard.do(f"{vm.name}: without {field.label if field else ''}", state.change_vm(self.session, vm.name, lambda _: less))

    def action_shift(self, step: int) -> None:
        vm, field = self.session.vm, self._field()
        if vm is None or field is None or not field.key.startswith("function/"):
            return
        address = field.key.split("/")[1]
        self.wizard.do(f"{vm.name}: move {address}", state.change_vm(self.session, vm.name, lambda one: move_function(one, address, step)))

    def action_assign(self) -> None:
        from wizard.tui.screens.assign import assign_functions
        from wizard.tui.screens.give import Give

        vm = self.session.vm
        if vm is None:
            self.action_new()
            return
        name = vm.name

        def answered(chosen: object) -> None:
            if chosen == "tree":
                from wizard.tui.screens.pick import PickScreen

                self.app.push_screen(PickScreen(name))
            elif isinstance(chosen, list):
                assign_functions(self.wizard, chosen, to=name)

        self.app.push_screen(Give(self.wizard, name), answered)

    def action_by_address(self) -> None:
        """Any address: also that of a VF which the preparation script has still to make."""
        vm = self.session.vm
        if vm is None:
            return
        name = vm.name

        def check(text: str) -> str | None:
            wrong = next((word for word in text.replace(",", " ").split() if not is_address(word)), None)
            return f"{wrong} is not a PCI address: write DDDD:BB:DD.F." if wrong else None if text.strip() else "An address: DDDD:BB:DD.F."

        def answered(text: object) -> None:
            if isinstance(text, str):
                words = [str(Address.parse(word)) for word in text.replace(",", " ").split()]
                self.wizard.do(f"give {', '.join(words)} to {name}", state.assign(self.session, name, words))

        note = "Also VFs that are still to be made, by the address that they will have."
        self.app.push_screen(Prompt(f"Give to {name}", note=note, check=check), answered)

    def action_open(self) -> None:
        from wizard.tui.profiles import ask_for_profiles

        ask_for_profiles(self.wizard)

    def show_cause(self, finding: Finding) -> None:
        """Put the cursor on the field that causes a finding."""
        vm = self.session.vm
        if vm is None:
            return
        # Everything open, so that the field is among them.
        every = frozenset(field.key for field in self._fields.values() if field.key.startswith(("function/", "vsmmu/")))
        fields = fields_of(self.wizard.host, vm, self.wizard.plan, every)
        action, keys = finding.action, {field.key for field in fields}
        own = action.field.replace("properties.", "property/") if action is not None else ""
        key = own if own in keys else field_of(finding.code, finding.subject, f"{finding.subject} {finding.what}", [field.key for field in fields])
        if key is None:
            self.action_explain()
            return
        parent = next((field.fold for field in fields if field.key == key and field.fold), "/".join(key.split("/")[:2]))
        if key not in self._fields:
            self._opened |= {parent}
            self.update()
        view = self.query_one("#fields", LinesView)
        view.focus()
        self.call_after_refresh(view.go_to, key)
