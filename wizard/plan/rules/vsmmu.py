"""Virtual SMMUs: which SMMU of the host, which bus, which functions behind one (sources: qemu-smmuv3, qemu-one-smmu, qemu-behind-accel)."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.action import mode_to, set_to
from wizard.base.finding import Finding
from wizard.base.text import visible
from wizard.plan.codes import ERROR, WARNING, plan_code
from wizard.plan.model import ROOT_BUS
from wizard.plan.rules.base import Scene, repeated, rule

UNKNOWN_SMMU = plan_code(
    "unknown-smmu", ERROR,
    what="VM {subject}: vSMMU {id} is made for {smmu}, which this host does not have.",
    why="A vSMMU stands for one SMMU of the host, and only functions of that SMMU can be behind it.",
    fix="Write one of {known}, or leave smmu out.",
)  # fmt: skip
SPLIT_UNKNOWN = plan_code(
    "split-unknown", ERROR,
    what="VM {subject}: {smmu} can't be split: this host has no such SMMU.",
    why="--split names an SMMU of the host, whose functions then get a vSMMU each.",
    fix="Write one of {known}.",
    action=set_to("split"),
)  # fmt: skip


@rule
def known_smmu(scene: Scene) -> Iterator[Finding]:
    """Names of SMMUs that the request has written."""
    known = ", ".join(scene.host.smmus) or "none (this host shows no SMMU)"
    for vsmmu in scene.vm.vsmmus:
        if vsmmu.smmu is not None and scene.smmu(vsmmu.smmu) is None:
            yield UNKNOWN_SMMU.at(scene.name, id=vsmmu.id, smmu=visible(vsmmu.smmu), known=known)
    for name in scene.vm.request.split:
        if scene.smmu(name) is None:
            yield SPLIT_UNKNOWN.at(scene.name, smmu=visible(name) or "''", known=known)


JOINED = plan_code(
    "smmus-joined", ERROR,
    what="VM {subject}: {function} sits behind {other}, not behind {smmu} of vSMMU {id}.",
    why="A vSMMU hands its invalidations to one physical SMMU. QEMU starts with any other function, and the kernel refuses its attach "
    "(arm_smmu_attach_dev_nested: Invalid argument): it then reaches all of the VM's memory with no vIOMMU before it, and its guest's driver fails.",
    fix="Leave vsmmu out for {function}: it gets a vSMMU of its own SMMU.",
)  # fmt: skip


@rule
def one_smmu(scene: Scene) -> Iterator[Finding]:
    """One host SMMU per vSMMU (sources: problem-12)."""
    shared = repeated([vsmmu.bus for vsmmu in scene.vm.vsmmus])  # two on one bus are an error of their own
    for vsmmu in scene.vm.vsmmus:
        for device in scene.vm.devices_of(vsmmu) if vsmmu.bus not in shared else ():
            if vsmmu.accel and device.smmu != vsmmu.smmu:
                yield JOINED.at(scene.name, function=device.host, other=device.smmu or "no SMMU", smmu=vsmmu.smmu or "no SMMU", id=vsmmu.id)


SPLIT = plan_code(
    "smmu-split", WARNING,
    what="VM {subject}: {smmu} is split over {count} vSMMUs ({ids}).",
    why="On Linux 7.2 and 7.3 they share the VM's stage 2 of that SMMU and so one VMID: safe for Linux guests (one ASID space), not promised "
    "for others.",
    fix="Use --layout per-smmu unless the guest needs them apart.",
    action=set_to("layout", "per-smmu"),
)  # fmt: skip


@rule
def split(scene: Scene) -> Iterator[Finding]:
    """Several vSMMUs of one SMMU."""
    for smmu in repeated([vsmmu.smmu for vsmmu in scene.vm.vsmmus if vsmmu.smmu]):
        ids = [vsmmu.id for vsmmu in scene.vm.vsmmus if vsmmu.smmu == smmu]
        yield SPLIT.at(scene.name, smmu=smmu, count=len(ids), ids=", ".join(ids))


PASID_WIDTH = plan_code(
    "pasid-widths-differ", WARNING,
    what="VM {subject}: {function} has {width}-bit PASIDs, and vSMMU {id} has ssidsize={ssidsize}.",
    why="The guest may use PASIDs of the smaller width only; its driver sees the width in the function's own capability.",
    fix="Use --ssidsize {width} if the guest needs one width for all.",
    action=set_to("properties.ssidsize", "{width}"),
)  # fmt: skip
CANWBS_DIFFERS = plan_code(
    "canwbs-differs", ERROR,
    what="VM {subject}: {function} is behind vSMMU {id}, and its root complex is not coherent by itself (CANWBS clear).",
    why="Without S2FWB the kernel makes a vIOMMU only for functions whose IORT root complex says CANWBS; the flag is per segment, not per SMMU.",
    fix="Put it into another VM without a vIOMMU, or write mode = \"none\" for it.",
    action=mode_to("none", "{function}"),
)  # fmt: skip


@rule
def further_functions(scene: Scene) -> Iterator[Finding]:
    """Every further function is compared with the finalised properties, not only with the SMMU's name."""
    for vsmmu in scene.vm.vsmmus:
        smmu = scene.smmu(vsmmu.smmu)
        coherent = any(c.function.known("canwbs").proved for d in scene.vm.devices_of(vsmmu) if (c := scene.candidate(d)))
        for candidate in scene.behind(vsmmu) if vsmmu.accel else ():
            width = candidate.function.known("pasid_width").value
            if isinstance(width, int) and vsmmu.ssidsize.resolved and 0 < width < vsmmu.ssidsize.resolved:
                yield PASID_WIDTH.at(scene.name, function=candidate.address, width=width, id=vsmmu.id, ssidsize=vsmmu.ssidsize.resolved)
            if coherent and candidate.function.known("canwbs").value is False and smmu is not None and smmu.known("s2fwb").value is False:
                yield CANWBS_DIFFERS.at(scene.name, function=candidate.address, id=vsmmu.id)


TWO_ON_BUS = plan_code(
    "two-vsmmus-on-one-bus", ERROR,
    what="VM {subject}: {ids} share the bus {bus}.",
    why="A root complex has one SMMU ('An iommu is already attached to this bus').",
    fix="Write a bus of its own for each, or leave bus out.",
)  # fmt: skip
ON_ROOT = plan_code(
    "vsmmu-on-root-bus", ERROR,
    what="VM {subject}: vSMMU {id} is on pcie.0, where {others} are.",
    why="No emulated endpoint may sit behind an accelerated vSMMU ('Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on').",
    fix="Leave bus out: the vSMMU gets a pxb-pcie of its own.",
)  # fmt: skip


@rule
def buses(scene: Scene) -> Iterator[Finding]:
    """The bus of a vSMMU, and one vSMMU for each (sources: qemu-S1, qemu-S2, qemu-S3, qemu-S4, qemu-S7)."""
    for bus in repeated([vsmmu.bus for vsmmu in scene.vm.vsmmus]):
        yield TWO_ON_BUS.at(scene.name, bus=visible(bus), ids=" and ".join(v.id for v in scene.vm.vsmmus if v.bus == bus))
    for vsmmu in scene.vm.vsmmus:
        others = [d.id for d in scene.vm.disks if d.bus == ROOT_BUS] + [n.id for n in scene.vm.networks if n.bus == ROOT_BUS]
        others += [o.id for o in scene.vm.others if o.kind == "endpoint" and o.bus == ROOT_BUS]
        plain = [d.id for d in scene.vm.devices if d.vsmmu is None and scene.vm.complex_of(d.port) == ROOT_BUS]
        if vsmmu.bus == ROOT_BUS and vsmmu.accel and (others or plain):
            yield ON_ROOT.at(scene.name, id=vsmmu.id, others=", ".join(others + plain))
