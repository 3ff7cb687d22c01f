"""VMs that run and what happens to them, as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wizard.base.text import plural, size
from wizard.running.functions import State
from wizard.running.watch.records import Record
from wizard.running.watch.states import Look, VmState, cmdqv
from wizard.tui.lines import Line, heading, line, wrap

_ROLES = {"lost": "warn", "ended": "warn", "stopped": "warn", "gone": "bad", "GUEST_PANICKED": "bad"}
_STEPS = (" ▁▂▃▄▅▆▇█", " .:-=+*#@")


def vm_lines(look: Look) -> Iterator[Line]:
    """Each VM with what its guest has switched on, and its functions."""
    yield heading(plural(len(look.vms), "VM runs", "VMs run"))
    for vm in sorted(look.vms.values(), key=lambda one: (one.name, one.pid)):
        yield line((vm.name, "bold"), f"  process {vm.pid}", (f"  {_state(vm)}", ""), key=f"vm/{vm.pid}")
        for address in vm.functions:
            yield line("  ", (address, "accent"), f"  {_function(look.functions.get(address))}", key=address)
        if not vm.functions:
            what = "no function of the host" if vm.process.held is not None else "its functions are seen by root alone"
            yield line((f"  {what}", "dim"))


def _state(vm: VmState) -> str:
    words = ["stopped" if vm.process.stopped else "runs", size(vm.memory)]
    if vm.accelerated:
        queues = vm.process.switched_on
        on = "not known, it needs root" if queues is None else str(queues)
        words.append(f"{plural(vm.accelerated, 'accelerated vSMMU')}, switched on by a guest: {on}")
    if vm.process.pinned is not None:
        words.append(f"{size(vm.process.pinned)} pinned")
    if (said := cmdqv(vm)) is not None:
        words.append(said)
    return ", ".join(words)


def _function(state: State | None) -> str:
    if state is None or not state.there:
        return "gone from the bus"
    words = [state.driver or "no driver", state.power, state.link]
    if state.interrupts is not None:
        words.append(f"{state.interrupts.kind}, {state.interrupts.count} interrupts")
    return ", ".join(word for word in words if word)


def event_lines(records: Sequence[Record], rates: Sequence[int], *, ascii: bool) -> Iterator[Line]:
    """The newest first, below how many there were in each of the last intervals."""
    yield line(("What happens  ", "head"), (spark(rates, ascii=ascii), "info"), (f"  {sum(rates)} in {plural(len(rates) * 2, 'second')}", "dim"))
    for place in range(len(records) - 1, -1, -1):
        one = records[place]
        about = " ".join(word for word in (one.vm, one.function) if word)
        times = f" ({one.count} times)" if one.count > 1 else ""
        where = f": {one.place}" if one.place else ""
        role = _ROLES.get(one.kind, "bad" if one.source == "kernel" else "")
        yield line((one.at[11:19], "dim"), " ", (one.kind, role), f" {about}{': ' if about else ''}{one.text}{where}{times}", key=place)
    if not records:
        yield line(("nothing so far", "dim"))


def spark(rates: Sequence[int], *, ascii: bool) -> str:
    """A line of little bars, as high as the highest."""
    steps = _STEPS[ascii]
    most = max(rates, default=0)
    return "".join(steps[-(-one * (len(steps) - 1) // most)] if most else steps[0] for one in rates)


def whole_lines(one: Record, width: int, played: Sequence[str] = ()) -> list[Line]:
    """A record, what the same access does on the simulated SMMU (``played``), and what the record means."""
    from io import BytesIO

    from wizard.explain.report import explain
    from wizard.explain.text import lines as explained

    told = {name: value for name in one.__struct_fields__ if (value := getattr(one, name)) not in (None, "") and name != "explain"}
    found = [part for name, value in told.items() for part in wrap(f"{name}: {value}", width)]
    if played:
        found += [line(""), heading("The same access on the simulated SMMU"), *(part for text in played for part in wrap(text, width))]
    report = explain(BytesIO(one.kind.encode()))
    if report.messages:
        found += [line(""), *(part for text in explained(report) for part in wrap(text, width))]
    return found
