"""What the host has of memory and CPUs, who has it, and what is free: the bars beside the fields. No Textual here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wizard.base.glyphs import Glyphs
from wizard.facts.model import Moment
from wizard.host.model import Host
from wizard.plan.memory import cpu_list, working_nodes
from wizard.plan.model import NodePlan, Plan
from wizard.plan.request import VmRequest

Span = tuple[str, str]


@dataclass(frozen=True)
class Share:
    """How much of one thing there is, and whose it is; bytes, or CPUs. ``used`` is what the host itself uses, None where that was not read."""

    name: str  # "" for the host as a whole, else its node
    total: int
    mine: int
    others: int
    used: int | None = None
    memory: bool = True

    @property
    def over(self) -> bool:
        """Whether it can't be: more memory than there is, or a VM with more CPUs than the host."""
        return self.free < 0 if self.memory else self.mine > self.total

    @property
    def free(self) -> int:
        """What is left; below zero where more was given than there is."""
        return self.total - self.mine - self.others - (self.used or 0)

    def show(self, count: int) -> str:
        """An amount in a few letters."""
        if not self.memory:
            return str(count)
        text = f"{count / (1 << 30):.1f}"
        return f"{text.removesuffix('.0')}G"

    def words(self) -> str:
        """What is free of how much."""
        if not self.memory:  # the CPUs of VMs may be more than the host has: they take turns
            return f"{self.mine + self.others} given of {self.total}"
        if self.free < 0:
            return f"{self.show(-self.free)} too much for {self.show(self.total)}"
        return f"{self.show(self.free)} free of {self.show(self.total)}"

    def whose(self) -> str:
        """Who has how much, in words."""
        parts = [f"this VM {self.show(self.mine)}", f"other VMs {self.show(self.others)}"]
        parts += [f"the host {self.show(self.used)}"] if self.used is not None else []
        return f"{', '.join(parts)}, {self.words()}"


def memory_shares(host: Host, moment: Moment, plan: Plan | None, vm: VmRequest) -> Iterator[Share]:
    """Of the host, then of each node where it has several."""
    total, free = host.facts.memory_total, moment.memory_available
    others = [one for one in plan.vms if one.name != vm.name] if plan else []
    if total:
        used = max(0, total - free) if free is not None else None
        yield Share("", total, vm.memory, sum(one.memory.size for one in others), used)
    nodes = working_nodes(host)
    mine = next((one.memory.nodes for one in plan.vms if one.name == vm.name), ()) if plan else ()
    for node in nodes if len(nodes) > 1 else ():

        def of(planned: tuple[NodePlan, ...], id: int = node.id) -> int:
            return sum(one.memory for one in planned if one.host_node == id)

        yield Share(f"node {node.id}", node.memory or 0, of(mine), sum(of(one.memory.nodes) for one in others))


def cpu_shares(host: Host, plan: Plan | None, vm: VmRequest) -> Iterator[Share]:
    """CPUs of the host, then of each node where it has several; a host's CPUs may be given twice."""
    others = [one for one in plan.vms if one.name != vm.name] if plan else []
    if host.facts.cpus:
        yield Share("", host.facts.cpus, vm.cpus, sum(one.cpus for one in others), memory=False)
    nodes = working_nodes(host)
    mine = next((one.memory.nodes for one in plan.vms if one.name == vm.name), ()) if plan else ()
    for node in nodes if len(nodes) > 1 else ():

        def of(planned: tuple[NodePlan, ...], id: int = node.id) -> int:
            return sum(len(one.cpus) for one in planned if one.host_node == id)

        yield Share(f"node {node.id}", len(cpu_list(node.cpus) or ()), of(mine), sum(of(one.memory.nodes) for one in others), memory=False)


def bar(share: Share, width: int, glyphs: Glyphs) -> list[Span]:
    """The share as a strip: this VM, the other VMs, the host's own, and what is free. Told apart by their signs, colour or not."""
    signs = ("#", "=", "-", ".") if glyphs.ascii else ("█", "▓", "▒", "░")
    roles = ("accent", "info", "dim", "dim")
    whole = max(share.total, share.mine + share.others + (share.used or 0), 1)
    sizes = [share.mine, share.others, share.used or 0]
    cells = [max(1, round(width * size / whole)) if size else 0 for size in sizes]
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    cells.append(width - sum(cells))
    return [(sign * count, "bad" if share.over and role != "dim" else role) for sign, count, role in zip(signs, cells, roles, strict=True) if count]
