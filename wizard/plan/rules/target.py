"""What the QEMU and libvirt of the plan can do: by the properties that the installed ones name, else by version."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.action import set_to
from wizard.base.finding import Area, Finding
from wizard.base.text import visible
from wizard.host.libvirt import NAMES, lacks
from wizard.host.vmm import Vmm
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.model import VmPlan
from wizard.plan.properties import DECLARED
from wizard.plan.rules.base import Scene, rule_of
from wizard.plan.target import NEWEST, Target, installed, parse_version

BAD = plan_code(
    "target-unknown", ERROR,
    what="VM {subject}: {target} names no QEMU.",
    why="A target is qemu=VERSION, or openvmm.",
    fix="Write for instance --target qemu=11.1, or leave it out.",
    action=set_to("target"),
)  # fmt: skip
OTHER = plan_code(
    "target-not-installed", WARNING, area=Area.PACKAGES,
    what="VM {subject} is planned for QEMU {target}, and the host has {found}{too_new}.",
    why="What the other version takes may differ from what is checked here.",
    fix="Install QEMU {target} before it is started, or leave --target out.",
    action=set_to("target"),
)  # fmt: skip
NO_QEMU = plan_code(
    "qemu-not-found", INFO, area=Area.PACKAGES,
    what="The host shows no qemu-system-aarch64; {subject} is planned for.",
    why="What a QEMU can do is asked of the installed one where there is one.",
    fix="Install qemu-system-arm and record the host again, or name the version with --target qemu=VERSION.",
)  # fmt: skip
TOO_NEW = plan_code(
    "target-newer-than-known", WARNING, area=Area.PACKAGES,
    what="VM {subject} is planned for QEMU {target}, and this program knows QEMU up to {newest}.",
    why="It is planned by the rules of {newest}; what the newer one takes or refuses is not known here.",
    fix="Use a newer smmu-wizard, or try the plan with `smmu-wizard rehearse`.",
)  # fmt: skip
TOO_OLD = plan_code(
    "plan-needs-newer-qemu", ERROR, area=Area.PACKAGES,
    what="VM {subject} needs {need}, and QEMU {target} has no such thing.",
    why="{why}",
    fix="{fix}",
)  # fmt: skip


ELSEWHERE = plan_code(
    "emulator-elsewhere", WARNING, area=Area.PACKAGES,
    what="The QEMU of the recorded host is {path}, no program of the system's; {subject} is written instead.",
    why="A snapshot may come from somebody else, and what is exported is run as root: it does not choose the program. The system's are "
    "qemu-system-aarch64 and qemu-kvm in /usr/bin, /usr/local/bin, /usr/libexec and /usr/lib/qemu.",
    fix="If it is yours and meant, put a link to it into /usr/local/bin and record the host again, or change the exported file.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def target(scene: Scene) -> Iterator[Finding]:
    """--target, and what is there."""
    asked = scene.vm.request.target
    found = installed(scene.host.facts)
    bad = asked is not None and parse_version(asked) is None
    if bad:
        yield BAD.at(scene.name, target=visible(asked or "") or "''")
    elif found is None:
        yield NO_QEMU.at(f"QEMU {scene.target.name}")
    if scene.target.elsewhere is not None:
        yield ELSEWHERE.at(scene.target.path, path=visible(scene.target.elsewhere))
    if scene.target.version > NEWEST:
        yield TOO_NEW.at(scene.name, target=scene.target.name, newest=".".join(map(str, NEWEST)))
    if found is not None and found.version != scene.target.version and not bad:
        needs = [need for need, _, _ in lacking(scene.vm, found)]
        too_new = f", for which this is too new: {', '.join(needs)}" if needs else ""
        yield OTHER.at(scene.name, target=scene.target.name, found=found.name, too_new=too_new)


@rule_of(Vmm.QEMU)
def abilities(scene: Scene) -> Iterator[Finding]:
    """What the target lacks is an error; what the installed one lacks is said with it."""
    for need, why, fix in lacking(scene.vm, scene.target):
        yield TOO_OLD.at(scene.name, need=need, target=scene.target.name, why=why, fix=fix)


def lacking(vm: VmPlan, able: Target) -> Iterator[tuple[str, str, str]]:
    """What a plan needs and a QEMU does not have: what, since when, and what to do (sources: qemu-versions, problem-16)."""
    for need, wanted, since in (
        ("vfio-pci with iommufd", vm.iommufd is not None, (9, 0)),
        ("granule and aw-bits of a virtio-iommu", vm.virtio_iommu is not None, (9, 0)),
        ("a generic initiator", any(node.initiator for node in vm.memory.nodes), (9, 0)),
        ("highmem-mmio-size", vm.memory.mmio_written, (10, 0)),
    ):
        if wanted and able.version < since:
            version = f"{since[0]}.{since[1]}"
            yield need, f"It came with QEMU {version}.", f"Use QEMU {version} or later."
    if not vm.vsmmus:
        return
    if not able.pluggable:
        fix = "Use QEMU 11.1 or later, or --mode virtio-iommu or none."
        yield "vSMMUs as devices", "arm-smmuv3 can be given with -device since QEMU 10.2.", fix
    elif not able.accel:
        fix = "Use QEMU 11.0 or later, or --mode virtio-iommu or none."
        yield "accel=on", "arm-smmuv3 has accel since QEMU 11.0.", fix
    written = {name for vsmmu in vm.vsmmus for name, prop in vsmmu.properties() if prop.written is not None}
    for one in DECLARED:
        if able.accel and one.name in written - able.properties:
            yield one.name, f"arm-smmuv3 has {one.name} since QEMU {one.since[0]}.{one.since[1]}.", f"Leave {one.name} out."
    if able.accel and not able.auto and any(prop.auto for vsmmu in vm.vsmmus for _, prop in vsmmu.properties()):
        why = "auto is resolved from the host since QEMU 11.1; 11.0 says that it is not supported."
        yield "auto properties", why, "Write the values out."
    if not able.vfio_ats and any(device.ats for device in vm.devices):
        yield "vfio-pci,ats=", "vfio-pci has ats since QEMU 11.1.", "Leave ats out for the function."


LIBVIRT_OLD = plan_code(
    "plan-needs-newer-libvirt", INFO, area=Area.PACKAGES,
    what="The host's libvirt is {found}; the XML of VM {subject} needs {need}, which it does not have.",
    why="pciBus came with 11.10, iommufd with 12.1, accel after that; an older one ignores or refuses them.",
    fix="Use the QEMU export, or libvirt 12.8 or later.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def libvirt(scene: Scene) -> Iterator[Finding]:
    """Elements and attributes that libvirt has (sources: libvirt-elements)."""
    program = next((p for p in scene.host.facts.programs if p.name in (*NAMES, "virsh") and p.version), None)
    if program is not None and scene.vm.vsmmus and (lacking := lacks(program)):
        yield LIBVIRT_OLD.at(scene.name, found=program.version, need=", ".join(lacking))
