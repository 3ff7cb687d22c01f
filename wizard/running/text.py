"""What ``verify`` answers, for people: each VM with its three questions, its functions, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.text import size, visible
from wizard.running.model import Answer, FunctionView, Step, VmView


def lines(vm: VmView) -> Iterator[str]:
    """One VM, without its findings."""
    user = f", user {visible(vm.user)}" if vm.user else ""
    yield f"VM {visible(vm.name or '?')} (process {vm.pid}{user}): {vm.state}; held against {visible(vm.against)}; {vm.monitor}."
    for step in vm.steps:
        yield from step_lines(step)
    for function in vm.functions:
        yield f"  {_function(function)}"
    for vsmmu in vm.vsmmus:
        values = ", ".join(f"{name}={visible(value)}" for name, value in vsmmu.properties.items())
        accel = "?" if vsmmu.accel is None else "on" if vsmmu.accel else "off"
        yield f"  {visible(vsmmu.id)} on {visible(vsmmu.bus or '?')}: accel={accel}{', ' + values if values else ''}"
        for name, value in vsmmu.comes_to.items():
            yield f"    {name}=auto comes to {visible(value)}"
    if vm.memory is not None:
        yield f"  {_memory(vm)}"


def step_lines(step: Step) -> Iterator[str]:
    """One question with its answer and its evidence."""
    yield f"  {step.question}: {step.answer.value}. {step.said}"
    for one in step.evidence:
        yield f"      {visible(one.said)} ({one.where}; {one.rights.value})"
    if step.more and step.answer is not Answer.NO:
        yield f"      more would tell: {step.more}"


def _function(one: FunctionView) -> str:
    place = (
        f"guest {one.guest}, StreamID {one.stream_id:#x}" if one.guest and one.stream_id is not None else f"guest {one.guest}" if one.guest else ""
    )
    parts = [
        place, f"driver {one.driver}" if one.driver else "", one.power or "", one.link or "", one.interrupts or "",
        "" if one.bus_master is None else "bus master" if one.bus_master else "no bus master",
        "" if one.opened in (None, "iommufd") else f"open: {one.opened}",
    ]  # fmt: skip
    return f"{one.host or visible(one.id or '?')}: {', '.join(filter(None, parts)) or 'nothing more is known'}"


def _memory(vm: VmView) -> str:
    memory = vm.memory
    assert memory is not None
    parts = [f"memory {size(memory.guest)}" if memory.guest else "", f"pinned {size(memory.pinned)}" if memory.pinned else ""]
    if memory.limit is not None:
        parts.append(f"may lock {size(memory.limit) if memory.limit >= 0 else 'as much as it wants'}")
    if memory.hugepages:
        parts.append(f"hugepages {size(memory.hugepages)}")
    if len(memory.nodes) > 1:
        parts.append(", ".join(f"node {node}: {count >> 20} MiB" for node, count in memory.nodes.items()))
    return ", ".join(filter(None, parts)) or "of its memory nothing is known"
