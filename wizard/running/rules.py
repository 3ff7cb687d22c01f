"""Every finding about a VM that runs, and the rules that hold it against what it should be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from wizard.base.finding import Area, Finding, Kind, Severity, define
from wizard.base.text import size, visible
from wizard.running.devices import Machine
from wizard.running.expected import Expected, WantedFunction, is_auto
from wizard.running.functions import State
from wizard.running.guest import WINDOW
from wizard.running.ladder import Behind
from wizard.running.process import Process

_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO
_PASSTHROUGH = re.compile(r"(?:^|\s)iommu\.passthrough=(\w{1,8})")
_ON = re.compile(r"[yYtT1]|[oO][nN]")  # kstrtobool() of the kernel
_MOVED = "A guest addresses its functions by it, and its vSMMU knows them by it: what was planned and proved is another VM."

NOT_RUNNING = define(
    "running-not-found", _E, Kind.RUNNING, Area.HOST,
    what="VM {subject} does not run here.",
    why="No QEMU of this machine has its name or its UUID, as far as this user can see.",
    fix="Start it, or look with `virsh list` and `pgrep -a qemu`; a VM that ended says why in its log (`smmu-wizard explain LOG`).",
)  # fmt: skip
ENDED = define(
    "running-ended", _E, Kind.RUNNING, Area.HOST,
    what="VM {subject} ended while it was looked at.",
    why="Its process (number {pid}) is gone; nothing of it is shown, since a part could be another process's.",
    fix="Look in its log why it ended, and ask again when it runs.",
)  # fmt: skip
NOT_ACCELERATED = define(
    "running-not-accelerated", _E, Kind.RUNNING,
    what="VM {subject}: {function} is not behind an accelerated vSMMU: {because}.",
    why="{source} says that it is. What the guest maps for it is not walked by the host's SMMU.",
    fix="Stop the VM and start what `smmu-wizard export` writes; a running VM's vSMMU can't be changed.",
)  # fmt: skip
DIFFERS = define(
    "running-differs", _E, Kind.RUNNING,
    what="VM {subject}: {what_of} is {found}, and {source} says {said}.",
    why="{because}",
    fix="Stop the VM and start what the profile's export is, or correct the profile if the VM is as you want it.",
)  # fmt: skip
MISSING = define(
    "running-function-missing", _E, Kind.RUNNING, Area.HOST,
    what="VM {subject}: {function} is not in it any more: {because}.",
    why="{source} has it. Somebody has unplugged it, or taken it away from the VM (an unbind on the host makes QEMU unplug it, if the guest agrees).",
    fix="Bind it to its vfio driver again, and plug it with `smmu-wizard export … --format qmp`; or start the VM anew.",
)  # fmt: skip
ADDED = define(
    "running-function-added", _W, Kind.RUNNING,
    what="VM {subject} has {function}, which {source} does not have.",
    why="It was plugged while the VM ran. Nothing of it was planned or proved.",
    fix="Write it into the profile (`smmu-wizard import --running`), or unplug it.",
)  # fmt: skip
TAKEN_AWAY = define(
    "running-function-taken-away", _E, Kind.RUNNING, Area.HOST,
    what="VM {subject}: {function} is being taken away from it (its device file is gone, and QEMU still has it open).",
    why="An unbind on the host waits until QEMU lets go of the function. QEMU asks the guest, which can't answer while {waits}.",
    fix="Let the guest go on (`cont`), shut it down, or end the unbind's shell; then bind the function again.",
)  # fmt: skip
DRIVER = define(
    "running-function-driver", _E, Kind.RUNNING, Area.DRIVERS,
    what="VM {subject}: {function} is on {driver}, and not on a vfio driver.",
    why="What the VM has of it is not the function any more.",
    fix="Stop the VM, run the preparation script, and start it again.",
)  # fmt: skip
LEGACY = define(
    "running-legacy-vfio", _W, Kind.RUNNING,
    what="VM {subject}: {function} is open by its group (/dev/vfio/GROUP), and not through iommufd.",
    why="Acceleration is iommufd's: through the old interface there is none, whatever else is set.",
    fix="Add -object iommufd,id=iommufd0 and iommufd=iommufd0 to the function; libvirt: <driver iommufd='yes'/>.",
)  # fmt: skip
WITHOUT_SMMU = define(
    "running-guest-without-smmu", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject}: the guest's driver of {function} runs, and no guest has switched the vSMMU on.",
    why="Its interrupts arrive ({interrupts}), and the kernel has no event queue for the vSMMU. Without a driver for the SMMU the function works and "
    "nothing is isolated inside the guest: it reaches all of the guest's memory.",
    fix="Use a guest kernel with CONFIG_ARM_SMMU_V3, ACPI and UEFI, and look in the guest's log for arm-smmu-v3.",
)  # fmt: skip
TOLD_TO_BYPASS = define(
    "running-guest-told-to-bypass", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject}: the guest's kernel was started with {word}, so its vSMMU does not translate.",
    why="DMA goes by the vSMMU's bypass: the functions work, and reach all of the guest's memory. No sign outside of the VM changes by it.",
    fix="Leave it off the kernel's command line (-append; libvirt: <cmdline>), and start the VM again.",
)  # fmt: skip
NO_INTERRUPT = define(
    "running-interrupts-missing", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject}: the guest's driver of {function} has asked for interrupts ({interrupts}), and none has come.",
    why="The function writes them to the MSI window {start:#x} to {end:#x}. Where a guest has switched its SMMU on and does not map that (no RMR "
    "node in its IORT, or a kernel of before 6.0), each is a fault that the host never sees. A function that has had nothing to say looks the same.",
    fix="Look again when it is used. `verify --guest` tells whether the guest maps the window, and which faults its log has.",
)  # fmt: skip
OTHER_QEMU = define(
    "running-other-qemu", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject} is run by QEMU {found}, and {source} was planned for {said}.",
    why="What a QEMU accepts, what it makes of auto, and its defaults are those of its version: the plan was checked for another.",
    fix="Start it with QEMU {said}, or plan it for {found} (`smmu-wizard plan … --target qemu=VERSION`).",
)  # fmt: skip
REPLACED = define(
    "running-qemu-replaced", _I, Kind.RUNNING, Area.HOST,
    what="VM {subject}: the QEMU that runs it is no longer the one that is installed.",
    why="The program was replaced while the VM ran (an update): the VM keeps the old one, with its faults, until it is started again.",
    fix="Shut the VM down and start it, when that suits.",
)  # fmt: skip
STOPPED = define(
    "running-process-stopped", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject}: its process {pid} is stopped (state {state}), so QEMU answers nothing.",
    why="SIGSTOP or a debugger holds it. The guest does not run; its functions stay attached and may go on with DMA.",
    fix="Continue it (kill -CONT {pid}) or end the debugger.",
)  # fmt: skip
SILENT = define(
    "running-monitor-silent", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject}: its monitor does not answer: {because}.",
    why="What only QEMU knows (devices plugged since the start, places in the guest) was not seen; the rest is.",
    fix="{fix}",
)  # fmt: skip
FOREIGN = define(
    "running-socket-foreign", _E, Kind.RUNNING, Area.HOST,
    what="VM {subject}: {because}.",
    why="Whatever answers there speaks for another VM, or is no QEMU. It was not asked anything.",
    fix="Name the VM's own socket with --qmp, and look who made the other one.",
)  # fmt: skip
NO_MONITOR = define(
    "running-without-monitor", _I, Kind.RUNNING,
    what="VM {subject} has no QMP socket.",
    why="What was plugged or unplugged since the start, and where the guest has its functions, is not seen from outside; traces are out of reach.",
    fix="The export of a profile has a socket; an option -qmp unix:PATH,server=on,wait=off works at the next start.",
)  # fmt: skip
PAUSED = define(
    "running-paused", _I, Kind.RUNNING, Area.HOST,
    what="VM {subject} is {status}.",
    why="No guest runs, so none can have switched its vSMMU on or answer an unplug.",
    fix="Let it go on (`cont`; virsh resume) and ask again.",
)  # fmt: skip
HUGEPAGES = define(
    "running-hugepages-unused", _E, Kind.RUNNING, Area.HOST,
    what="VM {subject} has {used} of its memory in hugepages of {page}, and {source} says all of {memory}.",
    why="With small pages the host's tables have 512 times the entries, and a miss in the TLB walks one level more.",
    fix="Start it with the backend of the export (memory-backend-memfd, hugetlb=on, hugetlbsize={page}).",
)  # fmt: skip
MEMORY_ELSEWHERE = define(
    "running-memory-elsewhere", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject}: {there} of its memory is on host node {nodes}, and {function} with its SMMU is on node {node}.",
    why="Each walk of the guest's tables and each transfer goes over the link between the nodes.",
    fix="Bind the memory to node {node} (a [[numa]] table in its profile), or take a function of the other node.",
)  # fmt: skip
CPUS_ELSEWHERE = define(
    "running-cpus-elsewhere", _I, Kind.RUNNING, Area.HOST,
    what="VM {subject}: none of its virtual CPUs may run on host node {node}, where {function} and its SMMU are.",
    why="Interrupts and the memory that the CPUs touch first are on another node than the function.",
    fix="Pin the virtual CPUs to node {node} (virsh vcpupin, taskset), where that is wanted.",
)  # fmt: skip
MEMLOCK = define(
    "running-memlock-small", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject} may lock {limit}, and needs {needed} for its functions.",
    why="All of the guest's memory is pinned for a function. The next one that is plugged fails with 'vfio_container_dma_map(…) = -12'.",
    fix="Raise the limit (the preparation script does; libvirt: no hard_limit).",
)  # fmt: skip
EVENTS = define(
    "running-events", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject}: the host's log has {count} of {function} since the VM started, the last one {last}.",
    why="{because}",
    fix="Give the lines to `smmu-wizard explain`. A working accelerated guest's own faults never come here: they are in the guest's log.",
)  # fmt: skip
SAID = define(
    "running-log", _W, Kind.RUNNING, Area.HOST,
    what="VM {subject}: {where} says: {text}",
    why="{means}",
    fix="`smmu-wizard explain` tells the causes; give it the log.",
)  # fmt: skip
LINK = define(
    "running-link-slow", _I, Kind.RUNNING, Area.HARDWARE,
    what="VM {subject}: the link of {function} runs at {link}, and it could at {best}.",
    why="Some functions lower it while they have nothing to do; others are in a slot that has no more.",
    fix="Look again under load, and at the slot (lspci -vv, LnkSta).",
)  # fmt: skip
LEFT_ON = define(
    "running-trace-left-on", _E, Kind.RUNNING, Area.HOST,
    what="VM {subject}: the trace event {name} could not be switched off again.",
    why="QEMU did not answer. Its log grows by a line for each unmap of the guest until it is switched off.",
    fix='Send {{"execute": "trace-event-set-state", "arguments": {{"name": "{name}", "enable": false}}}} to its monitor.',
)  # fmt: skip
RIGHTS = define(
    "running-needs-root", _I, Kind.RUNNING, Area.HOST,
    what="Of {subject} not everything could be read without root: {places}.",
    why="Other users' descriptors and sockets are closed: whether a function is open, whether a guest has switched its vSMMU on, what QEMU says.",
    fix="sudo smmu-wizard verify.",
)  # fmt: skip


def compared(name: str, expected: Expected, machine: Machine, hosts: Mapping[str, str | None]) -> Iterator[Finding]:
    """What QEMU has against what it should have. ``hosts``: QEMU's id of a function -> its address on the host."""
    source = expected.source

    def differs(what: str, found: object, said: object, because: str = _MOVED) -> Finding:
        return DIFFERS.at(name, what_of=what, found=visible(str(found)), said=visible(str(said)), source=source, because=because)

    vsmmus = {one.id: one for one in machine.vsmmus}
    for wanted in expected.vsmmus:
        vsmmu = vsmmus.get(wanted.id)
        if vsmmu is None:
            yield differs(f"vSMMU {visible(wanted.id)}", "not there", "that it is")
            continue
        if vsmmu.accel is not None and vsmmu.accel != wanted.accel:
            because = "It can't be changed while the VM runs; without accel QEMU itself translates, and no assigned function works behind it."
            yield differs(f"accel of {visible(wanted.id)}", _switch(vsmmu.accel), _switch(wanted.accel), because)
        if vsmmu.bus != wanted.bus:
            yield differs(f"the bus of {visible(wanted.id)}", vsmmu.bus, wanted.bus)
        for prop, value in wanted.properties.items():
            found = vsmmu.properties.get(prop)
            if found is not None and found != value and not (is_auto(value) or is_auto(found)):
                yield differs(f"{prop} of {visible(wanted.id)}", found, value, "The guest's SMMU has another feature than was planned.")
            elif found is not None and found != value:
                yield differs(
                    f"{prop} of {visible(wanted.id)}", found, value, "With auto the first function decides it, and another host may differ."
                )
    bridges = {one.id: one for one in machine.bridges}
    for want in expected.bridges:
        bridge = bridges.get(want.id)
        if bridge is None:
            yield differs(f"bus {visible(want.id)}", "not there", "that it is")
            continue
        if want.bus is not None and bridge.bus != want.bus:
            yield differs(f"the bus above {visible(want.id)}", bridge.bus, want.bus)
        if want.bus_nr is not None and bridge.bus_nr is not None and bridge.bus_nr != want.bus_nr:
            yield differs(f"bus_nr of {visible(want.id)}", bridge.bus_nr, want.bus_nr)
        if want.numa_node is not None and bridge.numa_node != want.numa_node:
            yield differs(f"numa_node of {visible(want.id)}", "not set" if bridge.numa_node is None else bridge.numa_node, want.numa_node)
    yield from _functions(name, expected, machine, hosts, differs)
    if expected.machine is not None and "-" in expected.machine and machine.type not in (None, expected.machine):
        yield differs("its machine", machine.type, expected.machine, "Devices, their defaults and where they are belong to the machine's version.")
    if expected.qemu is not None and _release(machine.version) != _release(expected.qemu):
        yield OTHER_QEMU.at(name, found=visible(machine.version), said=visible(expected.qemu), source=source)
    if expected.memory is not None and machine.memory is not None and machine.memory != expected.memory:
        yield differs(
            "its memory", size(machine.memory), size(expected.memory), "What it pins and what its limit has to be were planned for the other."
        )
    if expected.cpus is not None and machine.cpus and len(machine.cpus) != expected.cpus:
        yield differs("the number of its CPUs", len(machine.cpus), expected.cpus, "QEMU's pvtime page, which is pinned too, grows with them.")


def _functions(
    name: str, expected: Expected, machine: Machine, hosts: Mapping[str, str | None], differs: Callable[..., Finding]
) -> Iterator[Finding]:
    found = {one.id: one for one in machine.functions}
    by_host = {host: id for id, host in hosts.items() if host is not None}
    seen: set[str] = set()
    for wanted in expected.functions:
        shown = _shown(wanted)
        id = by_host.get(wanted.host or "") or (wanted.id if wanted.id in found and (wanted.host is None or hosts.get(wanted.id) is None) else None)
        function = found.get(id or "")
        if function is None:
            other = hosts.get(wanted.id or "") if wanted.id in found else None
            because = f"QEMU's {visible(wanted.id or '')} is {other}" if other else "QEMU has no such function"
            yield MISSING.at(name, function=shown, because=because, source=expected.source)
            continue
        seen.add(function.id)
        if wanted.bus is not None and function.bus != wanted.bus:
            yield differs(f"the bus of {shown}", function.bus, wanted.bus)
        if wanted.vsmmu != function.vsmmu:
            yield differs(f"the vSMMU above {shown}", function.vsmmu or "none", wanted.vsmmu or "none")
        elif wanted.guest is not None and function.guest is not None and function.guest != wanted.guest:
            yield differs(f"the guest's address of {shown}", function.guest, wanted.guest)
    for function in machine.functions:
        if function.id not in seen and hosts.get(function.id) not in {one.host for one in expected.functions if one.host is not None}:
            shown = hosts.get(function.id) or visible(function.id)
            yield ADDED.at(name, function=shown, source=expected.source)


def _shown(wanted: WantedFunction) -> str:
    return wanted.host or f"function {visible(wanted.id or '?')}"


def _release(version: str) -> tuple[str, ...]:
    """``11.1`` of ``11.1.2``: within a release QEMU mends and adds nothing."""
    return tuple(version.split(".")[:2])


def _switch(on: bool) -> str:
    return "on" if on else "off"


def of_memory(name: str, expected: Expected, process: Process) -> Iterator[Finding]:
    """Hugepages, the limit of locked memory, and the node that the guest's memory is on."""
    if expected.hugepages and expected.memory and process.hugepages is not None and process.hugepages < expected.memory:
        yield HUGEPAGES.at(name, used=size(process.hugepages), page=size(expected.hugepages), memory=size(expected.memory), source=expected.source)
    limited = process.memlock is not None and process.memlock >= 0 and process.root is False
    if expected.memlock is not None and limited and (process.memlock or 0) < expected.memlock:
        yield MEMLOCK.at(name, limit=size(process.memlock or 0), needed=size(expected.memlock))


def of_guest(name: str, words: Sequence[str], functions: Sequence[Behind], states: Mapping[str, State], process: Process) -> Iterator[Finding]:
    """What of its guest is to be seen from outside. ``words``: QEMU's command line; ``functions``: those that are accelerated."""
    if functions and (word := _passthrough(words)):
        yield TOLD_TO_BYPASS.at(name, word=visible(word))
    for one in functions:
        interrupts = state.interrupts if (state := states.get(one.host or "")) else None
        if process.switched_on and interrupts is not None and interrupts.kind != "intx" and not interrupts.count:
            yield NO_INTERRUPT.at(name, function=one.host, interrupts=interrupts.told, start=WINDOW[0], end=WINDOW[1])
    if process.replaced:
        yield REPLACED.at(name)


def _passthrough(words: Sequence[str]) -> str | None:
    """The word of the guest kernel's command line that lets its IOMMUs pass everything; the last one counts (iommu_set_def_domain_type())."""
    lines = [value for word, value in pairwise(words) if word in ("-append", "--append")]
    said = _PASSTHROUGH.findall(lines[-1]) if lines else []
    return f"iommu.passthrough={said[-1]}" if said and _ON.match(said[-1]) else None


def of_places(
    name: str, process: Process, states: Mapping[str, State], cpus: Mapping[int, int], node_cpus: Mapping[int, frozenset[int]]
) -> Iterator[Finding]:
    """Memory and virtual CPUs against the node of each function, on a host that has more than one."""
    if len(node_cpus) < 2:
        return
    threads = {thread.id: thread for thread in process.threads or ()}
    allowed = [cpu_set(thread.cpus) for id in cpus.values() if (thread := threads.get(id)) is not None and thread.cpus is not None]
    for node in sorted({state.node for state in states.values() if state.node is not None}):
        function = next(address for address, state in states.items() if state.node == node)
        if process.nodes and (elsewhere := sum(count for at, count in process.nodes.items() if at != node)) > sum(process.nodes.values()) // 2:
            nodes = ", ".join(str(at) for at in sorted(process.nodes) if at != node)
            yield MEMORY_ELSEWHERE.at(name, there=_mib(elsewhere), nodes=nodes, function=function, node=node)
        if allowed and not any(one & node_cpus.get(node, frozenset()) for one in allowed):
            yield CPUS_ELSEWHERE.at(name, node=node, function=function)


def _mib(count: int) -> str:
    return f"{count >> 20} MiB"


def cpu_set(text: str) -> frozenset[int]:
    """``0-3,8`` as numbers; what is no such list is empty."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (not last or last.isdecimal()) and len(part) < 16:
            found |= set(range(int(first), min(int(last or first), int(first) + 65536) + 1))
    return frozenset(found)


def of_functions(name: str, states: Mapping[str, State], process: Process, status: str | None) -> Iterator[Finding]:
    """Drivers, device files that are gone, and links."""
    deleted = {held.function for held in process.held or () if held.deleted}
    for address, state in states.items():
        if address in deleted:
            waits = f"it is {status}" if status is not None and status != "running" else "its driver is busy, or it has none for hot-plug"
            yield TAKEN_AWAY.at(name, function=address, waits=waits)
        elif not state.there:
            yield DRIVER.at(name, function=address, driver="no bus of this host")
        elif not state.on_vfio:
            yield DRIVER.at(name, function=address, driver=f"driver {state.driver}" if state.driver else "no driver")
        if state.link and state.link_best and state.link != state.link_best:
            yield LINK.at(name, function=address, link=state.link, best=state.link_best)
