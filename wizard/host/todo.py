"""What can be mended before a function is given away: driver, override, uses by the host, VFs, devices of its group.

None of this enters the verdict; the preparation script does most of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

import msgspec

from wizard.base.action import LEAVE_OUT, Action
from wizard.base.address import Address
from wizard.base.finding import Area, Definition, Finding, Kind, Severity, define, ordered
from wizard.base.text import few, size
from wizard.facts.model import Facts, InUse
from wizard.host.devices import grace_gpu, unknown_gpu
from wizard.host.model import Function, Group
from wizard.host.pci import caps, extcaps
from wizard.host.uses import on_vfio, uses_of

MSIX_ENTRY = 16  # bytes of one MSI-X table entry (PCIe 6.0, 7.7.2)


class Company:
    """The functions of a host by what they share. Every function is asked for its neighbours: nobody looks through all of them for each."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self.functions = functions
        self._given_away: dict[int, bool] = {}
        self._on_host_drivers: dict[int, tuple[Function, ...]] = {}

    @cached_property
    def _by_bus(self) -> Mapping[tuple[str, int], tuple[Function, ...]]:
        found: dict[tuple[str, int], list[Function]] = {}
        for function in self.functions.values():
            if function.parent is not None:
                found.setdefault((function.parent, function.address.bus), []).append(function)
        return {place: tuple(some) for place, some in found.items()}

    @cached_property
    def below(self) -> Mapping[str, list[Address]]:
        """Functions by the name of the SMMU above them, sorted: a host with many functions has many SMMUs too."""
        found: dict[str, list[Address]] = {}
        for function in self.functions.values():
            if function.smmu is not None:
                found.setdefault(function.smmu, []).append(function.address)
        return {name: sorted(some) for name, some in found.items()}

    def on_bus(self, function: Function) -> tuple[Function, ...]:
        """The others on the bus of a function below a bridge, in the order of the host; none of one on a root bus."""
        here = self._by_bus.get((function.parent, function.address.bus), ()) if function.parent is not None else ()
        return tuple(other for other in here if other is not function)

    def on_host_drivers(self, group: Group) -> tuple[Function, ...]:
        """The members of a group that a driver of the host has, which stands in VFIO's way."""
        found = self._on_host_drivers.get(group.id)
        if found is None:
            members = (self.functions[address] for address in group.devices if address in self.functions)
            found = tuple(filter(_on_host_driver, members))
            self._on_host_drivers[group.id] = found
        return found

    def given_away(self, group: Group) -> bool:
        """Whether any member of a group is on a vfio driver."""
        found = self._given_away.get(group.id)
        if found is None:
            members = (self.functions[address] for address in group.devices if address in self.functions)
            found = self._given_away[group.id] = any(map(on_vfio, members))
        return found


class Situation(msgspec.Struct, frozen=True):
    """One function in its host."""

    facts: Facts
    function: Function
    group: Group | None
    company: Company
    uses: tuple[InUse, ...] = ()  # who has it
    fit: bool = True  # False: it can't be given to a VM at all


Rule = Callable[[Situation], Iterable[Finding]]
RULES: list[Rule] = []


def rule(check: Rule) -> Rule:
    """Register a rule; they are asked in the order of this file."""
    RULES.append(check)
    return check


def todo_of(
    facts: Facts, function: Function, group: Group | None, company: Company, uses: tuple[InUse, ...] = (), *, fit: bool = True
) -> tuple[Finding, ...]:
    """Every finding of kind todo about one endpoint, of which ``uses`` are known; none about a bridge."""
    if function.is_bridge:
        return ()
    situation = Situation(facts, function, group, company, uses, fit)
    return ordered(finding for check in RULES for finding in check(situation))


def _todo(code: str, severity: Severity, area: Area, *, what: str, why: str, fix: str, action: Action | None = None) -> Definition:
    return define(code, severity, Kind.TODO, area, what=what, why=why, fix=fix, action=action)


@rule
def used(at: Situation) -> Iterator[Finding]:
    """Who has it: the host, processes, other VMs."""
    if at.uses:
        yield from uses_of(at.uses, at.function)


PF_HAS_VFS = _todo(
    "pf-has-vfs", Severity.INFO, Area.DRIVERS,
    what="{subject} is a physical function with {count} live virtual functions.",
    why="Taking its driver away removes the VFs, and every VM that has one loses its device.",
    fix="Give its VFs instead, or remove them first (echo 0 > /sys/bus/pci/devices/{subject}/sriov_numvfs).",
    action=LEAVE_OUT,
)  # fmt: skip


@rule
def pf_with_vfs(at: Situation) -> Iterator[Finding]:
    """A PF to vfio while its VFs live (sources: problem-6)."""
    count = len(at.function.facts.virtfns) or at.function.facts.sriov_numvfs or 0
    if count:
        yield PF_HAS_VFS.at(at.function, count=count)


NOT_ON_VFIO = _todo(
    "not-on-vfio", Severity.INFO, Area.DRIVERS,
    what="{subject} {on}, not on a vfio driver.",
    why="QEMU takes a function only from vfio-pci or a variant of it.",
    fix="Run the preparation script (`smmu-wizard export PROFILE --format prepare`, or `smmu-wizard prepare {subject}`).",
)  # fmt: skip
NO_CDEV = _todo(
    "no-vfio-cdev", Severity.ERROR, Area.KCONFIG,
    what="{subject} is on {driver} but has no VFIO character device.",
    why="iommufd is reached through /dev/vfio/devices/vfioN; libvirt says: cannot open /dev/vfio/devices/vfioN.",
    fix="Use a kernel with CONFIG_VFIO_DEVICE_CDEV=y; bind the function again afterwards.",
)  # fmt: skip


CDEV_UNKNOWN = _todo(
    "vfio-cdev-unknown", Severity.WARNING, Area.HOST,
    what="{subject} is on {driver}, and no VFIO character device of it was recorded.",
    why="iommufd is reached through /dev/vfio/devices/vfioN; whether the function has one was not read.",
    fix="Record the host again, with the function's vfio-dev directory; on the host, look into /dev/vfio/devices.",
)  # fmt: skip


@rule
def vfio_driver(at: Situation) -> Iterator[Finding]:
    """The driver, and the cdev that comes with it (sources: problem-9)."""
    if not on_vfio(at.function) and at.fit:
        yield NOT_ON_VFIO.at(at.function, on=f"is on driver {at.function.facts.driver}" if at.function.facts.driver else "has no driver")
    elif on_vfio(at.function) and not at.function.facts.vfio_dev:
        yield (NO_CDEV if _makes_no_cdev(at.facts) else CDEV_UNKNOWN).at(at.function, driver=at.function.facts.driver)


def _makes_no_cdev(facts: Facts) -> bool:
    """Whether the kernel is known to make no cdev for what it binds: by its configuration, else on the host itself, where it would show."""
    built = facts.kernel.option("CONFIG_VFIO_DEVICE_CDEV")
    return built == "n" or (built is None and facts.origin == "live")


OVERRIDE_LEFT = _todo(
    "driver-override-left", Severity.WARNING, Area.DRIVERS,
    what="{subject} has driver_override {override} but is on driver {driver}.",
    why="The override takes effect at the next bind only, and no other driver can take it until the override is cleared.",
    fix="Bind it again, or clear the override: echo > /sys/bus/pci/devices/{subject}/driver_override.",
)  # fmt: skip


@rule
def override(at: Situation) -> Iterator[Finding]:
    """An override that says something else than the driver (sources: problem-7)."""
    wanted = at.function.facts.driver_override
    if at.function.facts.driver is None and at.function.facts.vfio_dev:
        return  # it is on a vfio driver whose name was not read
    if wanted and wanted.replace("_", "-") != (at.function.facts.driver or "").replace("_", "-"):
        yield OVERRIDE_LEFT.at(at.function, override=wanted, driver=at.function.facts.driver or "none")


SIBLING_DRIVER = _todo(
    "group-not-viable", Severity.ERROR, Area.DRIVERS,
    what="Group {group} of {subject} is not viable: {others}.",
    why="One owner gets the whole group; VFIO refuses it while a member is on a driver of the host.",
    fix="Bind every function of the group to its vfio driver, or keep the group for the host.",
)  # fmt: skip


def _on_host_driver(function: Function) -> bool:
    # pcieport and pci-stub do no DMA of their own.
    return function.facts.driver not in (None, "pcieport", "pci-stub") and not on_vfio(function)


@rule
def group_viable(at: Situation) -> Iterator[Finding]:
    """A group that was begun to be given away: some on a vfio driver, some not (sources: problem-4).

    Bridges on pcieport are allowed: that driver does no DMA of its own.
    """
    if at.group is None or not at.company.given_away(at.group):
        return
    there = at.company.on_host_drivers(at.group)
    others = (f"{one} is on {one.facts.driver}" for one in there if one is not at.function)
    itself = _on_host_driver(at.function) and str(at.function) in at.group.members
    if told := few(others, len(there) - itself):
        yield SIBLING_DRIVER.at(at.function, group=at.group.id, others=told)


GRACE_DRIVER = _todo(
    "grace-gpu-driver", Severity.ERROR, Area.DRIVERS,
    what="{subject} is a {gpu} on {driver}; it needs nvgrace_gpu_vfio_pci.",
    why="Only that driver shows a guest the GPU's memory, which is no BAR of it; with vfio-pci the guest's driver does not come up.",
    fix="Bind it to nvgrace_gpu_vfio_pci (the preparation script does); where the kernel has none, install one with CONFIG_NVGRACE_GPU_VFIO_PCI.",
)  # fmt: skip


@rule
def grace_driver(at: Situation) -> Iterator[Finding]:
    """A Grace GPU on plain vfio-pci (sources: problem-8)."""
    gpu = grace_gpu(at.function)
    if gpu and at.function.facts.driver == "vfio-pci":
        yield GRACE_DRIVER.at(at.function, gpu=gpu, driver="vfio-pci")


GPU_UNKNOWN = _todo(
    "gpu-unknown", Severity.WARNING, Area.HARDWARE,
    what="{subject} ({ids}) is not known here, and looks like a {family}: {how}.",
    why="The memory of such a GPU is no BAR of it: which regions and NUMA nodes a guest needs for it stands in a table, which does not have "
    "this one.",
    fix="Bind it to {driver} (`smmu-wizard prepare {subject}`) and run `sudo smmu-wizard record --probe`: VFIO says its regions. "
    "`smmu-wizard doctor --knowledge` says how old the table is.",
)  # fmt: skip


@rule
def unknown_gpus(at: Situation) -> Iterator[Finding]:
    """A GPU of a known family with an ID that nobody has written down."""
    if (found := unknown_gpu(at.company.functions, at.function)) is not None:
        family, how = found
        yield GPU_UNKNOWN.at(at.function, ids=at.function.ids, family=family.name, how=how, driver=family.driver)


SUB_PAGE = _todo(
    "sub-page-bar", Severity.WARNING, Area.HARDWARE,
    what="{subject} has {what_small} on a host with {page} pages.",
    why="A VMM maps a guest's BARs by pages of the host: a smaller BAR, or a page with the MSI-X table in it, is trapped at each access or refused.",
    fix="Expect it to be slow or refused by other VMMs; a kernel with 4K pages maps it directly.",
)  # fmt: skip


@rule
def sub_page_bars(at: Situation) -> Iterator[Finding]:
    """Sub-page BARs and MSI-X tables that share a page, on kernels with pages above 4 KiB (sources: problem-18)."""
    page = at.facts.kernel.page_size
    if not page or page <= 4096:
        return
    small = [f"BAR {bar.index} of {size(bar.size)}" for bar in at.function.bars if bar.memory and bar.size < page]
    msix = caps.msix(at.function.config)
    table = next((bar for bar in at.function.bars if msix and bar.index == msix.table_bar), None)
    if msix and table and table.size > page and msix.vectors * MSIX_ENTRY % page:
        small.append(f"its MSI-X table of {msix.vectors} vectors in a page with other registers of BAR {table.index}")
    if small:
        yield SUB_PAGE.at(at.function, what_small=", ".join(small), page=size(page))


BUS_RESET = _todo(
    "bus-reset-shared", Severity.WARNING, Area.HARDWARE,
    what="{subject} can be reset only with its whole bus, and {others} is on that bus too.",
    why="VFIO resets a device between two owners; a bus reset reaches every function on the bus, also one that another VM or the host uses.",
    fix="Give all functions of the bus to the same VM.",
)  # fmt: skip
NO_RESET = _todo(
    "no-reset", Severity.WARNING, Area.HARDWARE,
    what="{subject} has no reset method.",
    why="The next VM finds what the last one left in the device, and some devices do not start a second time.",
    fix="Power-cycle the host between two owners, or keep the function with one VM.",
)  # fmt: skip


@rule
def reset(at: Situation) -> Iterator[Finding]:
    """Which resets there are: sysfs reset_method (sources: problem-24)."""
    methods = at.function.facts.reset_method
    if methods is None:
        return
    words = set(methods.split())
    if not words:
        yield NO_RESET.at(at.function)
    elif words <= {"bus", "cxl_bus"} and (bus := at.company.on_bus(at.function)):
        yield BUS_RESET.at(at.function, others=", ".join(map(str, bus)))


MDEV = _todo(
    "mdev-not-iommufd", Severity.WARNING, Area.DRIVERS,
    what="{subject} offers mediated devices (mdev).",
    why="Mediated devices are not supported with iommufd, and so never behind an accelerated vSMMU.",
    fix="Give a virtual function, or the whole function, instead.",
)  # fmt: skip


@rule
def mdev(at: Situation) -> Iterator[Finding]:
    """mdev_supported_types (sources: problem-27)."""
    if at.function.facts.mdev:
        yield MDEV.at(at.function)


PASID_PATH = _todo(
    "pasid-path-acs", Severity.WARNING, Area.HARDWARE,
    what="{subject} has PASID, but the path above it lacks ACS {missing}.",
    why="The kernel enables PASID only where such requests can't be redirected to a peer (pci_enable_pasid asks for RR and UF on the path).",
    fix="Use a slot whose bridges have ACS, or plan it with --ssidsize 0.",
)  # fmt: skip


@rule
def pasid_path(at: Situation) -> Iterator[Finding]:
    """PASID refused for want of ACS (sources: problem-22)."""
    if not at.function.known("pasid").is_true:
        return
    path = str(at.function.known("acs_path").value or "")
    missing = sorted({"RR", "UF"} & set(path.removeprefix("lacks").split())) if path.startswith("lacks") else []
    if missing:
        yield PASID_PATH.at(at.function, missing=" and ".join(missing))


IDENTITY_GROUP = _todo(
    "group-identity", Severity.INFO, Area.CMDLINE,
    what="Group {group} of {subject} has an identity domain: the host itself uses the device untranslated.",
    why="A VM can still have it, since VFIO then uses its own domain; until then nothing protects the host from the device's DMA.",
    fix="Set iommu.passthrough=0 (the default of most kernels), or write DMA to /sys/kernel/iommu_groups/{group}/type with no driver bound.",
)  # fmt: skip


@rule
def identity_group(at: Situation) -> Iterator[Finding]:
    """Group type identity (sources: problem-19)."""
    if at.group and at.group.type == "identity":
        yield IDENTITY_GROUP.at(at.function, group=at.group.id)


VF_PLACES = _todo(
    "vf-arithmetic", Severity.WARNING, Area.HARDWARE,
    what="The VFs of {subject} are not where its SR-IOV capability puts them: {differences}.",
    why="StreamIDs follow requester IDs; addresses of VFs that are still to be made are predicted from the capability (offset and stride).",
    fix="Record the host again, as root; if it stays, let the preparation script make the VFs and compare.",
)  # fmt: skip


@rule
def vf_places(at: Situation) -> Iterator[Finding]:
    """VirtfnN links against RID = PF + offset + N * stride (PCIe 6.0, 9.2.1.2)."""
    routing = extcaps.vf_routing(at.function.config) if at.function.facts.virtfns else None
    if routing is None:
        return
    differences = []
    for index, name in enumerate(at.function.facts.virtfns):
        try:
            predicted = str(Address.of_rid(at.function.address.segment, routing.vf_rid(at.function.address.rid, index)))
        except ValueError:
            predicted = "none"
        if predicted != name:
            differences.append(f"VF {index} is {name}, expected {predicted}")
    if differences:
        yield VF_PLACES.at(at.function, differences="; ".join(differences[:4]))


CONFIG_DAMAGED = _todo(
    "config-space-damaged", Severity.WARNING, Area.HARDWARE,
    what="Configuration space of {subject} is damaged: {notes}.",
    why="Capabilities behind the damage can't be seen; a function that reads all ones does not answer (removed, failed, or powered down).",
    fix="Look at the device with `lspci -vvv -s {subject}`; reset or reseat it.",
)  # fmt: skip


@rule
def config_space(at: Situation) -> Iterator[Finding]:
    """Loops, stray pointers, all ones."""
    notes = [note.what for note in at.function.config.notes if at.function.config.length]
    if notes:
        yield CONFIG_DAMAGED.at(at.function, notes="; ".join(notes[:3]))
