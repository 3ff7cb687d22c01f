"""The machine (sources: qemu-machine)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from wizard.base.action import set_to
from wizard.base.finding import Area, Finding
from wizard.base.text import visible
from wizard.host.vmm import Vmm
from wizard.plan.codes import ERROR, WARNING, plan_code
from wizard.plan.request import Mode
from wizard.plan.rules.base import Scene, rule, rule_of

GICV2_CPUS = 8
VSMMUS_MAX = 16  # the platform bus has 64 interrupts, an arm-smmuv3 takes four

NOT_VIRT = plan_code(
    "machine-not-virt", ERROR,
    what="VM {subject} is planned on machine {type}.",
    why="Only virt takes an arm-smmuv3 ('Parameter 'driver' expects a dynamic sysbus device type for the machine').",
    fix="Write virt, or a versioned one such as virt-11.1.",
)  # fmt: skip


NO_SUCH_VIRT = plan_code(
    "machine-not-in-qemu", ERROR,
    what="VM {subject} is planned on machine {type}, which QEMU {target} does not have.",
    why="A QEMU has the versions of virt up to its own and those of the six majors before it ('unsupported machine type').",
    fix="Write virt-{target}, or leave type out; for a guest that has to keep its platform, use a QEMU that has the machine.",
)  # fmt: skip
_VERSION = re.compile(r"virt-([0-9]{1,3})\.([0-9]{1,3})")
MACHINES_END = 6  # MACHINE_VER_DELETION_MAJOR of QEMU's include/hw/boards.h: 11.1 still has virt-5.2, and no 5.1
MACHINES_END_SINCE = (10, 1)


@rule_of(Vmm.QEMU)
def virt(scene: Scene) -> Iterator[Finding]:
    """Only virt, of a version that the QEMU has (sources: qemu-M1)."""
    type_ = scene.vm.machine.type
    version = _VERSION.fullmatch(type_)
    if version:
        asked, target = (int(version[1]), int(version[2])), scene.target.version
        if asked > target or (target >= MACHINES_END_SINCE and (target[0] - MACHINES_END, target[1]) >= asked):
            yield NO_SUCH_VIRT.at(scene.name, type=type_, target=scene.target.name)
    elif type_ != "virt":
        yield NOT_VIRT.at(scene.name, type=visible(type_))


NO_KVM = plan_code(
    "no-kvm", ERROR, area=Area.KCONFIG,
    what="This host has no /dev/kvm, and VM {subject} needs it.",
    why="The exports start the VM with KVM. It is no choice where a vSMMU is: 'SMMUv3 accel=on requires KVM with kernel-irqchip=on support'.",
    fix="Boot the host's kernel at EL2 with KVM (CONFIG_KVM), then record it again.",
)  # fmt: skip


@rule
def kvm(scene: Scene) -> Iterator[Finding]:
    """KVM (sources: qemu-M2)."""
    if scene.host.facts.kvm is False:
        yield NO_KVM.at(scene.name)


NO_ACPI = plan_code(
    "no-acpi", ERROR,
    what="VM {subject} has ACPI off.",
    why="QEMU describes a vSMMU of a pxb-pcie in ACPI's IORT only: accel is refused ('not supported for DT'), a virtio-iommu has no VIOT.",
    fix="Leave acpi on.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def acpi(scene: Scene) -> Iterator[Finding]:
    """ACPI (sources: qemu-M3, qemu-M4)."""
    if not scene.vm.machine.acpi and (scene.vm.vsmmus or scene.vm.virtio_iommu):
        yield NO_ACPI.at(scene.name)


NO_DOORBELL = plan_code(
    "no-msi-doorbell", ERROR,
    what="VM {subject} has no ITS.",
    why="An accelerated vSMMU maps the guest's MSI doorbell; with its=off QEMU ends with an assertion (msi-gpa is 0) when a function sets up MSI.",
    fix="Leave its on.",
)  # fmt: skip
NO_MSI = plan_code(
    "no-msi", WARNING,
    what="VM {subject} has no ITS, so its functions have no MSIs.",
    why="Interrupts of PCI functions are MSIs; without them a virtual function has none at all, and others share four wires.",
    fix="Leave its on.",
)  # fmt: skip
GIC_IMPOSSIBLE = plan_code(
    "gic-impossible", ERROR,
    what="VM {subject} can't have GIC version {gic}: {because}.",
    why="QEMU ends when it starts.",
    fix="Leave gic at 3.",
)  # fmt: skip
GIC = plan_code(
    "gic-not-recommended", WARNING,
    what="VM {subject} has GIC version {gic}.",
    why="{why}",
    fix="Leave gic at 3.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def doorbell(scene: Scene) -> Iterator[Finding]:
    """GICv2 brings its own doorbell, GICv2m (sources: qemu-M9, qemu-M10)."""
    machine = scene.vm.machine
    if machine.gic == "2":
        if scene.vm.cpus > GICV2_CPUS:
            because = f"it has {scene.vm.cpus} CPUs, and QEMU says 'Number of SMP CPUs requested exceeds max CPUs supported by machine (8)'"
            yield GIC_IMPOSSIBLE.at(scene.name, gic="2", because=because)
        elif scene.vm.devices:
            yield GIC.at(scene.name, gic="2", why="GICv2 has eight CPUs and 64 MSIs at most, and KVM offers it only where the host's GIC does.")
    elif machine.gic == "4":
        yield GIC_IMPOSSIBLE.at(scene.name, gic="4", because="'KVM does not support GICv4 emulation'")
    elif not machine.its and _accelerated(scene):
        yield NO_DOORBELL.at(scene.name)
    elif not machine.its and scene.vm.devices:
        yield NO_MSI.at(scene.name)
    elif machine.gic in ("host", "max"):
        yield GIC.at(scene.name, gic=machine.gic, why="The guest's interrupt controller then depends on the host: the profile is not portable.")


TOO_MANY = plan_code(
    "vsmmus-too-many", ERROR,
    what="VM {subject} has {count} vSMMUs.",
    why="A virt machine has room for 16 ('Platform Bus: Can not fit IRQ line').",
    fix="Use --layout per-smmu, split fewer SMMUs, or spread the functions over several VMs.",
    action=set_to("layout", "per-smmu"),
)  # fmt: skip


@rule_of(Vmm.QEMU)
def count(scene: Scene) -> Iterator[Finding]:
    """How many vSMMUs the platform bus takes (sources: qemu-M14)."""
    if len(scene.vm.vsmmus) > VSMMUS_MAX:
        yield TOO_MANY.at(scene.name, count=len(scene.vm.vsmmus))


TWO_KINDS = plan_code(
    "two-kinds-of-viommu", ERROR,
    what="VM {subject} has both a virtio-iommu and vSMMUs.",
    why="A virtio-iommu is for the whole VM and excludes every arm-smmuv3. In one order QEMU takes both without an error, and the guest fails.",
    fix="Remove one of the two from the profile.",
)  # fmt: skip


MACHINE_WIDE = plan_code(
    "machine-wide-viommu", ERROR,
    what="VM {subject}: its machine has iommu={iommu}, and the VM has vSMMUs of its own.",
    why="QEMU: 'virt machine already has iommu=smmuv3 set. Doesn't support incompatible iommus'.",
    fix="Leave iommu out of the machine.",
    action=set_to("machine.iommu"),
)  # fmt: skip


@rule
def one_kind(scene: Scene) -> Iterator[Finding]:
    """Machine iommu=smmuv3 is never written; a virtio-iommu goes alone (sources: qemu-M5, qemu-M6, qemu-M7)."""
    if scene.vm.machine.iommu is not None and (scene.vm.vsmmus or scene.vm.virtio_iommu):
        yield MACHINE_WIDE.at(scene.name, iommu=scene.vm.machine.iommu)
    written = scene.vm.request.mode is Mode.VIRTIO_IOMMU and bool(scene.vm.request.vsmmus)
    if written or (scene.vm.virtio_iommu and scene.vm.vsmmus):
        yield TWO_KINDS.at(scene.name)


MMIO_SIZE = plan_code(
    "mmio-window-size", ERROR,
    what="VM {subject} asks for a 64-bit MMIO window of {size} bytes.",
    why="QEMU takes a power of two from 512 GiB upward ('highmem-mmio-size is not a power of 2', 'cannot be set to a lower value than the default').",
    fix="Write {needed}, or leave it to the planner.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def mmio_size(scene: Scene) -> Iterator[Finding]:
    """The size of the 64-bit window (sources: qemu-M13)."""
    memory = scene.vm.memory
    if memory.mmio_window < 512 << 30 or memory.mmio_window.bit_count() != 1:
        yield MMIO_SIZE.at(scene.name, size=memory.mmio_window, needed=f"{memory.mmio_needed >> 30}G")


def _accelerated(scene: Scene) -> bool:
    return any(vsmmu.accel for vsmmu in scene.vm.vsmmus)
