"""Every problem that administrators really meet, of the kinds that need neither a request nor a second snapshot.

Each case takes the recorded host, gives it the problem as the kernel or the firmware would show it, and expects the code;
the recorded host without it must not have the code.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import wizard.host
from tests.host.conftest import host_from
from tests.tools import golden
from wizard.base.finding import REGISTRY, Definition, Finding, Kind, Severity
from wizard.facts.model import Assumption, Facts, InUse, IommuDevice, Moment, Node, PciFunction, Policy, Program
from wizard.host.build import host_of
from wizard.host.doctor import diagnose
from wizard.host.log.lines import LINES
from wizard.host.model import Host

Hosts = Callable[[str], Host]
Change = Callable[[Facts], Facts]
DATA = Path(__file__).parent / "data"
GOLDEN = Path(__file__).parent / "golden/problems.txt"
NVME = "0000:14:00.0"
replace = msgspec.structs.replace


def function(address: str, **changes: object) -> Change:
    def apply(facts: Facts) -> Facts:
        return replace(facts, functions=tuple(replace(f, **changes) if f.address == address else f for f in facts.functions))

    return apply


def kernel(**changes: object) -> Change:
    return lambda facts: replace(facts, kernel=replace(facts.kernel, **changes))


def option(name: str, value: str | None) -> Change:
    def apply(facts: Facts) -> Facts:
        config = {key: setting for key, setting in (facts.kernel.config or {}).items() if key != name}
        return replace(facts, kernel=replace(facts.kernel, config=config | ({} if value is None else {name: value})))

    return apply


def told_to_repeat(facts: Facts) -> Facts:
    """IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI is bit 0 of the first word (include/uapi/linux/iommufd.h of 7.3)."""
    return replace(facts, hw_info=tuple(replace(info, data=f"01{info.data[2:]}") for info in facts.hw_info if info.data))


def uses(kind: str, detail: str, owner: str) -> Change:
    return lambda facts: replace(facts, in_use=(InUse(address=NVME, kind=kind, detail=detail, owner=owner),))


def unprobed(facts: Facts) -> Facts:
    return replace(facts, hw_info=())


def all_of(*changes: Change) -> Change:
    def apply(facts: Facts) -> Facts:
        for change in changes:
            facts = change(facts)
        return facts

    return apply


def no_smmu(facts: Facts) -> Facts:
    functions = tuple(replace(f, iommu=None, iommu_group=None) for f in facts.functions)
    return replace(facts, iommus=(), groups=(), functions=functions, hw_info=())


def not_a_member(facts: Facts) -> Facts:
    return replace(facts, iommus=tuple(replace(i, members=tuple(m for m in i.members if m != NVME)) for i in facts.iommus))


def in_no_group(facts: Facts) -> Facts:
    return replace(facts, groups=tuple(replace(g, devices=tuple(d for d in g.devices if d != NVME)) for g in facts.groups))


def without_iommu(facts: Facts) -> Facts:
    """The kernel uses none for the NVMe: no link, no group, in no list, and no line of the log."""
    return all_of(function(NVME, iommu=None, iommu_group=None), not_a_member, in_no_group, log_without(f"{NVME}: Adding to iommu group"))(facts)


def intel_without_it(facts: Facts) -> Facts:
    """Intel's IOMMU, and the kernel uses none for the NVMe."""
    return without_iommu(intel(facts))


def log_without(*words: str) -> Change:
    return lambda facts: replace(facts, log=tuple(line for line in facts.log if not any(word in line for word in words)))


def group(**changes: object) -> Change:
    return lambda facts: replace(facts, groups=tuple(replace(g, **changes) if NVME in g.devices else g for g in facts.groups))


def qemu(*properties: str, version: str = "10.2.2") -> Change:
    known: dict[str, dict[str, str | None]] = {"arm-smmuv3": dict.fromkeys(properties), "vfio-pci": {"host": None}}
    program = Program(name="qemu", path="/usr/bin/qemu-system-aarch64", version=version, properties=known)
    return lambda facts: replace(facts, programs=(program,))


def grace(facts: Facts) -> Facts:
    return function(NVME, vendor="0x10de", device="0x2941", driver="vfio-pci", vfio_dev=("vfio0",))(facts)


def asked(**changes: object) -> Change:
    return lambda facts: replace(facts, hw_info=tuple(replace(i, **changes) if i.error is None else i for i in facts.hw_info))


def said(*lines: str) -> Change:
    return lambda facts: replace(facts, log=(*facts.log, *lines))


def mask(features: int) -> Change:
    """Another feature mask in the log than the recorded one."""
    return lambda facts: replace(facts, hw_info=(), log=tuple(line.replace("0x01088705", f"{features:#010x}") for line in facts.log))


def config_of(**changes: object) -> Change:
    """The NVMe function as an endpoint with other capabilities: extended ones by number, 8 bytes each."""
    numbers: list[int] = changes.pop("extended", [])  # type: ignore[assignment]
    data = bytearray(4096)
    data[0x06], data[0x34] = 0x10, 0x40
    data[0x40:0x44] = bytes((0x10, 0, 0x02, 0))
    for index, number in enumerate(numbers):
        following = 0x108 + 8 * index if index + 1 < len(numbers) else 0
        data[0x100 + 8 * index : 0x104 + 8 * index] = (number | 1 << 16 | following << 20).to_bytes(4, "little")
    return function(NVME, config=bytes(data).rstrip(b"\0").hex(), config_length=4096, **changes)


def port_without_acs(facts: Facts) -> Facts:
    port = next(f for f in facts.functions if f.address == "0000:10:01.0")
    head = bytes.fromhex(port.config)[:256].rstrip(b"\0").hex()
    return function(port.address, config=head, config_length=4096)(facts)


def registers(iidr: int = 0, idr1: int = 0x02730010, idr5: int = 0x74) -> str:
    return b"".join(word.to_bytes(4, "little") for word in (0, 0, 0x0D44101B, idr1, 0, 0x1414, 0, idr5, iidr, 1)).hex()


def gicv2m(facts: Facts) -> Facts:
    line = "[    0.000000] GICv2m: range[mem 0x08020000-0x08020fff], SPI[80:143]"
    return replace(facts, hw_info=(), acpi={}, log=(*(entry for entry in facts.log if "ITS" not in entry), line))


def intel(facts: Facts) -> Facts:
    functions = tuple(replace(f, iommu="dmar0") for f in facts.functions)
    return replace(facts, functions=functions, hw_info=(), iommus=(IommuDevice(name="dmar0", members=tuple(f.address for f in functions)),))


def without_the_neighbour(facts: Facts) -> Facts:
    return replace(facts, functions=tuple(f for f in facts.functions if f.address != "0000:83:02.0"))


def with_the_neighbour(facts: Facts) -> Facts:
    smmu, number = next((f.iommu, f.iommu_group) for f in facts.functions if f.address == "0000:83:01.0")
    return function("0000:83:02.0", iommu=smmu, iommu_group=number)(facts)


def failed_smmu(facts: Facts) -> Facts:
    device = "arm-smmu-v3.2.auto"
    lost = replace(
        facts,
        iommus=tuple(iommu for iommu in facts.iommus if iommu.device != device),
        functions=tuple(replace(f, iommu=None, iommu_group=None) if f.address >= "0000:80" else f for f in facts.functions),
    )
    return said(f"[    5.0] arm-smmu-v3 {device}: probe with driver arm-smmu-v3 failed with error -22")(lost)


MMU_700_R1P0 = 0x487 << 20 | 1 << 16 | 0x43B

# Row of the table of problems (docs/sources/problems.md), of the kinds verdict and todo -> the codes that tell it.
ROWS: dict[int, tuple[str, ...]] = {
    1: ("smmu-off", "smmu-not-used", "smmu-failed"), 2: ("no-iommu-map",), 3: ("no-group",), 4: ("group-not-viable",), 5: ("in-use",),
    6: ("pf-has-vfs",), 7: ("driver-override-left",), 8: ("grace-gpu-driver", "grace-gpu-driver-missing"), 9: ("no-vfio-cdev", "no-iommufd"),
    10: ("kernel-lacks",), 11: ("no-nesting", "no-canwbs"), 13: ("qemu-refuses-smmu",), 16: ("qemu-too-old", "libvirt-too-old", "no-qemu"),
    18: ("sub-page-bar",), 19: ("iommu-passthrough", "group-identity"), 21: ("grace-gi-nodes-missing", "grace-gi-nodes-unknown"),
    22: ("pasid-path-acs",),
    23: ("one-to-one-requested",), 24: ("bus-reset-shared", "no-reset", "config-space-damaged"), 26: ("smmu-events",), 27: ("mdev-not-iommufd",),
    29: ("no-vfio",), 30: ("smmuv2-option", "iommu-not-smmuv3", "host-not-smmuv3"), 31: ("group-shared",), 32: ("direct-region",),
    33: ("msi-not-isolated",), 35: ("hugepage-size-unknown",), 37: ("ats-required",),
}  # fmt: skip

# code -> (what makes the recorded host have it, the fixture to start from)
CASES: dict[str, tuple[Change, str]] = {
    "smmu-off": (no_smmu, "arm64-virt"),
    "no-iommu-map": (all_of(no_smmu, lambda facts: replace(facts, acpi={}, device_tree=True)), "arm64-virt"),
    "no-smmu": (lambda facts: facts, "arm64-virt"),
    "stream-id-taken": (lambda facts: facts, "arm64-virt"),
    "stream-id-shared": (lambda facts: facts, "arm64-virt"),
    "group-shared": (lambda facts: facts, "arm64-virt"),
    "no-canwbs": (lambda facts: facts, "arm64-virt"),
    "guest-commands-checked": (kernel(release="7.3.4-armhost"), "arm64-virt-canwbs"),
    "guest-commands-unchecked": (lambda facts: facts, "arm64-virt-canwbs"),
    "vfio-noiommu": (function(NVME, iommu_group=None, iommu=None, vfio_dev=("noiommu-vfio0",)), "vfio-arm64-virt-canwbs"),
    "noiommu-mode": (kernel(module_parameters={"vfio.enable_unsafe_noiommu_mode": "Y"}), "arm64-virt-canwbs"),
    "kernel-update": (lambda facts: facts, "arm64-virt-canwbs"),
    "smmu-repeats-invalidations": (told_to_repeat, "arm64-virt-canwbs"),
    "gpu-unknown": (function("0008:01:00.0", device="0x30ff", driver="vfio-pci"), "gb200"),
    "guest-commands-unknown": (kernel(release=""), "arm64-virt-canwbs"),
    "no-group": (intel_without_it, "arm64-virt-canwbs"),
    "group-unknown": (all_of(function(NVME, iommu_group=None), in_no_group), "arm64-virt-canwbs"),
    "group-members-unknown": (group(devices=()), "arm64-virt-canwbs"),
    "smmu-not-used": (without_iommu, "arm64-virt-canwbs"),
    "smmu-unknown": (all_of(function(NVME, iommu=None), not_a_member), "arm64-virt-canwbs"),
    "function-silent": (function(NVME, config="ff" * 4096, config_length=4096), "arm64-virt-canwbs"),
    "coherency-unknown": (all_of(unprobed, lambda facts: replace(facts, acpi={}, log=())), "arm64-virt-canwbs"),
    "ats-need-unknown": (function(NVME, config="", config_length=0), "arm64-virt-canwbs"),
    "not-an-endpoint": (lambda facts: facts, "arm64-virt"),
    "no-nesting": (mask(0x01008705), "arm64-virt-canwbs"),
    "nesting-unknown": (all_of(unprobed, lambda facts: replace(facts, log=())), "arm64-virt-canwbs"),
    "smmu-not-coherent": (mask(0x01088605), "arm64-virt-canwbs"),
    "coherency-overridden": (
        said("[    1.2] arm-smmu-v3 arm-smmu-v3.0.auto: IDR0.COHACC overridden by FW configuration (false)"), "arm64-virt-canwbs",
    ),
    "canwbs-unknown": (all_of(unprobed, lambda facts: replace(facts, acpi={}, log=())), "arm64-virt-canwbs"),
    "viommu-refused": (asked(viommu="EOPNOTSUPP"), "arm64-virt-canwbs"),
    "viommu-probe-failed": (asked(viommu="EBUSY"), "arm64-virt-canwbs"),
    "cmdq-force-sync": (asked(data=registers(iidr=MMU_700_R1P0), viommu=None), "arm64-virt-canwbs"),
    "qemu-refuses-smmu": (asked(data=registers(idr1=0x02730008)), "arm64-virt-canwbs"),
    "openvmm-refuses-smmu": (asked(data=registers(idr5=0x64)), "arm64-virt-canwbs"),
    "ats-required": (config_of(extended=[0x0F], vendor="0x10de", device="0x2e12"), "arm64-virt-canwbs"),
    "msi-not-isolated": (gicv2m, "arm64-virt-canwbs"),
    "msi-isolation-assumed": (lambda facts: facts, "kunpeng-920"),
    "msi-isolation-unknown": (all_of(unprobed, lambda facts: replace(facts, acpi={}, log=())), "arm64-virt-canwbs"),
    "one-to-one-requested": (
        said(f"[   12.0] vfio-pci {NVME}: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting it."), "arm64-virt-canwbs",
    ),
    "reserved-regions-unknown": (group(reserved_regions=None), "arm64-virt-canwbs"),
    "dma-aliases-unknown": (function("0000:10:01.0", config="", config_length=0), "arm64-virt-canwbs"),
    "stream-ids-many": (without_the_neighbour, "arm64-virt-canwbs"),
    "stream-id-of-group": (with_the_neighbour, "arm64-virt-canwbs"),
    "stream-ids-unknown": (all_of(unprobed, lambda facts: replace(facts, acpi={})), "arm64-virt-canwbs"),
    "smmu-failed": (failed_smmu, "arm64-virt-canwbs"),
    "iommu-not-smmuv3": (intel, "arm64-virt-canwbs"),
    "host-not-smmuv3": (intel, "arm64-virt-canwbs"),
    "machine-not-arm64": (all_of(no_smmu, kernel(machine="x86_64")), "arm64-virt-canwbs"),
    "accel-off-by-policy": (lambda facts: replace(facts, policy=(Policy(subject=NVME, accel="off", reason="it hangs"),)), "arm64-virt-canwbs"),
    "policy-subject-unknown": (
        lambda facts: replace(facts, policy=(Policy(subject="0000:15:00.0", accel="off", reason="it hangs"),)), "arm64-virt-canwbs",
    ),
    "iort-defect": (lambda facts: replace(facts, acpi={"IORT": facts.acpi["IORT"][:-8]}), "arm64-virt-canwbs"),
    "iort-flaw-elsewhere": (
        lambda facts: replace(facts, acpi={"IORT": (DATA / "named-components.IORT.bin").read_bytes().hex()}), "arm64-virt-canwbs",
    ),
    "grace-gpu-driver-missing": (
        all_of(function(NVME, vendor="0x10de", device="0x2941", driver="nvidia"), option("CONFIG_NVGRACE_GPU_VFIO_PCI", "n")), "arm64-virt-canwbs",
    ),
    "pasid-path-acs": (all_of(config_of(extended=[0x1B]), port_without_acs), "arm64-virt-canwbs"),
    "smmu-events": (lambda facts: facts, "arm64-virt-canwbs"),
    "not-on-vfio": (lambda facts: facts, "arm64-virt-canwbs"),
    "kernel-lacks": (all_of(unprobed, option("CONFIG_ARM_SMMU_V3_IOMMUFD", "n")), "arm64-virt-canwbs"),
    "kernel-config-unknown": (all_of(unprobed, kernel(config=None)), "arm64-virt-canwbs"),
    "assumed-facts": (lambda facts: replace(facts, assumptions=(Assumption(path="groups", why="not published"),)), "arm64-virt-canwbs"),
    "id-registers-unknown": (unprobed, "arm64-virt-canwbs"),
    "direct-region": (group(reserved_regions="0x0000000280000000 0x0000000302ffffff direct"), "arm64-virt-canwbs"),
    "no-vfio": (all_of(option("CONFIG_VFIO_PCI", "n"), kernel(drivers=("nvme",))), "arm64-virt-canwbs"),
    "no-iommufd": (lambda facts: replace(facts, iommufd=False), "arm64-virt-canwbs"),
    "iommu-passthrough": (kernel(cmdline="console=ttyAMA0 iommu.passthrough=1"), "arm64-virt-canwbs"),
    "smmuv2-option": (kernel(cmdline="arm-smmu.disable_bypass=0"), "arm64-virt-canwbs"),
    "hugepage-size-unknown": (
        all_of(
            kernel(cmdline="hugepagesz=1G hugepages=16", page_size=65536),
            lambda facts: replace(facts, nodes=(Node(id=0, cpus="0-1", hugepages={"2048": 0, "524288": 0, "16777216": 0}),)),
        ),
        "arm64-virt-canwbs",
    ),
    "held-open": (
        lambda facts: replace(facts, in_use=(InUse(address=NVME, kind="held", detail="process 7 (smartd) has /dev/nvme0 open"),)),
        "arm64-virt-canwbs",
    ),
    "boot-display": (
        lambda facts: replace(facts, in_use=(InUse(address=NVME, kind="display", detail="simple-framebuffer.0"),)), "arm64-virt-canwbs",
    ),
    "in-use": (lambda facts: replace(facts, in_use=(InUse(address=NVME, kind="mount", detail="/dev/nvme0n1p2 on /"),)), "arm64-virt-canwbs"),
    "another-vm-has-it": (uses("vm", "process 7 (qemu-system-aar) has /dev/vfio/devices/vfio3 open", "db"), "arm64-virt-canwbs"),
    "in-network-pool": (uses("pool", "libvirt gives it, or its VFs, to the domains of that network", "fast"), "arm64-virt-canwbs"),
    "in-another-domain": (uses("domain", "its definition names the function", "db"), "arm64-virt-canwbs"),
    "pf-has-vfs": (lambda facts: facts, "arm64-virt-canwbs"),
    "group-not-viable": (function("0000:81:00.0", driver="vfio-pci"), "arm64-virt-canwbs"),
    "no-vfio-cdev": (all_of(function(NVME, driver="vfio-pci"), option("CONFIG_VFIO_DEVICE_CDEV", "n")), "arm64-virt-canwbs"),
    "vfio-cdev-unknown": (function(NVME, driver="vfio-pci"), "arm64-virt-canwbs"),  # its configuration has CONFIG_VFIO_DEVICE_CDEV
    "not-looked-at": (lambda facts: replace(facts, unread={"/sys/class/iommu": "not in this tree"}), "arm64-virt-canwbs"),
    "x86-iommu-option": (kernel(cmdline="console=ttyAMA0 iommu=pt"), "arm64-virt-canwbs"),
    "driver-override-left": (function(NVME, driver_override="vfio-pci"), "arm64-virt-canwbs"),
    "grace-gpu-driver": (grace, "arm64-virt-canwbs"),
    "grace-gi-nodes-missing": (grace, "arm64-virt-canwbs"),
    "grace-gi-nodes-unknown": (all_of(grace, lambda facts: replace(facts, nodes=())), "arm64-virt-canwbs"),
    "sub-page-bar": (kernel(page_size=65536), "arm64-virt-canwbs"),
    "no-reset": (function(NVME, reset_method=""), "arm64-virt-canwbs"),
    "bus-reset-shared": (function("0000:81:00.0", reset_method="bus"), "arm64-virt-canwbs"),
    "mdev-not-iommufd": (function(NVME, mdev=True), "arm64-virt-canwbs"),
    "vf-arithmetic": (function("0000:11:00.0", virtfns=("0000:11:10.0", "0000:11:10.4")), "arm64-virt-canwbs"),
    "config-space-damaged": (function(NVME, config="ff" * 64, config_length=4096), "arm64-virt-canwbs"),
    "group-identity": (group(type="identity"), "arm64-virt-canwbs"),
    "no-qemu": (lambda facts: replace(facts, origin="live"), "arm64-virt-canwbs"),
    "qemu-too-old": (qemu("primary-bus", "smmu_per_bus", "stage"), "arm64-virt-canwbs"),
    "libvirt-too-old": (
        lambda facts: replace(facts, programs=(Program(name="libvirtd", path="/usr/sbin/libvirtd", version="10.0.0"),)), "arm64-virt-canwbs"
    ),
    "iommu-passthrough-default": (
        all_of(kernel(cmdline="quiet"), said("[    0.9] iommu: Default domain type: Passthrough (set via kernel command line)")), "arm64-virt-canwbs",
    ),
    # Each kind of line in a kernel's own words; what was kept of it is another test's matter.
    **{kind.leads_to.code: (said(f"[  900.0] {kind.example}"), "arm64-virt-canwbs") for kind in LINES},
}  # fmt: skip
# What the recorded hosts have themselves: each is not found on another one.
ELSEWHERE = {
    "msi-isolation-assumed": "arm64-virt-canwbs",
    "bus-reset-shared": "grace-1s", "no-smmu": "grace-1s", "stream-id-taken": "grace-1s", "stream-id-shared": "grace-1s", "group-shared": "grace-1s",
    "no-canwbs": "arm64-virt-canwbs", "pf-has-vfs": "vfio-arm64-virt-canwbs", "smmu-events": "grace-1s", "not-an-endpoint": None,
    "not-on-vfio": None, "guest-commands-unchecked": "arm64-virt", "kernel-update": "x86-intel",
}  # fmt: skip


def told(facts: Facts) -> list[Finding]:
    host = host_of(facts)
    doctor = [replace(item.finding, subject=subject) for area in diagnose(host).areas for item in area.findings for subject in item.subjects]
    verdicts = [verdict for verdicts in (host.verdicts, *host.other_verdicts.values()) for verdict in verdicts.values()]
    own = list(dict.fromkeys(finding for verdict in verdicts for finding in (*verdict.reasons, *verdict.todo)))
    seen = {(finding.code, finding.subject) for finding in own}
    return own + [finding for finding in doctor if (finding.code, finding.subject) not in seen]


def found(facts: Facts) -> set[str]:
    return {finding.code for finding in told(facts)}


@pytest.mark.parametrize("code", CASES)
def test_a_host_with_the_problem_is_told_so(host: Hosts, code: str) -> None:
    """Severity, subject and every sentence are as they were read (tests/tools/golden.py)."""
    change, name = CASES[code]
    mine = [finding for finding in told(change(host(name).facts)) if finding.code == code]
    assert mine, f"{code} is not found"
    golden.same_section(GOLDEN, code, golden.findings_text(mine))


def test_no_text_of_a_code_that_is_gone() -> None:
    golden.only(GOLDEN, CASES)


@pytest.mark.parametrize("code", sorted(code for code in CASES if ELSEWHERE.get(code, "") is not None))
def test_a_host_without_it_is_not(host: Hosts, code: str) -> None:
    assert code not in found(host(ELSEWHERE.get(code) or CASES[code][1]).facts)


def test_what_every_host_has_somewhere_is_not_said_of_others(host: Hosts) -> None:
    ready = host("vfio-arm64-virt-canwbs").verdict(NVME)
    assert not {"not-an-endpoint", "not-on-vfio"} & {finding.code for finding in (*ready.reasons, *ready.todo)}


def test_every_row_of_the_problems_has_a_code_of_its_own() -> None:
    kinds = {code: REGISTRY[code].kind for codes in ROWS.values() for code in codes}
    assert set(kinds.values()) == {Kind.VERDICT, Kind.TODO}
    assert len(kinds) == sum(map(len, ROWS.values()))  # none speaks for two rows
    assert set(kinds) <= set(CASES)


def test_every_code_of_a_host_is_tried_here() -> None:
    modules = [importlib.import_module(module.name) for module in pkgutil.walk_packages(wizard.host.__path__, "wizard.host.")]
    codes = {value.code for module in modules for value in vars(module).values() if isinstance(value, Definition)}
    assert codes == set(CASES)


def test_bound_to_vfio_nothing_of_the_drivers_is_left(host: Hosts) -> None:
    """The recording after every endpoint was bound: its PF lost its VFs by that, so nothing of it has any."""
    codes = found(host("vfio-arm64-virt-canwbs").facts)
    assert not codes & {"pf-has-vfs", "no-vfio-cdev", "group-not-viable", "driver-override-left"}


@pytest.mark.parametrize(("properties", "words"), [((), "pluggable"), (("smmu_per_bus",), "accel=on"), (("smmu_per_bus", "accel"), "auto")])
def test_qemu_is_asked_for_properties_not_for_its_version(host: Hosts, properties: tuple[str, ...], words: str) -> None:
    shown = diagnose(host_of(qemu(*properties, version="99.0")(host("arm64-virt-canwbs").facts)))
    texts = [item.finding.what for area in shown.areas for item in area.findings if item.finding.code == "qemu-too-old"]
    assert len(texts) == 1
    assert words in texts[0]


def test_complete_qemu_is_no_finding(host: Hosts) -> None:
    assert "qemu-too-old" not in found(qemu("smmu_per_bus", "accel", "cmdqv", version="11.1.2")(host("arm64-virt-canwbs").facts))


def test_doctor_sorts_by_where_it_is_mended(host: Hosts) -> None:
    """Places with errors first, then those with warnings: each in the order of places."""
    shown = [(list(Severity).index(area.findings[0].finding.severity), area.area.value) for area in diagnose(host("arm64-virt")).areas]
    order = ["firmware", "kernel command line", "kernel configuration", "drivers", "packages", "hardware", "host"]
    assert shown == sorted(shown, key=lambda one: (one[0], order.index(one[1])))
    assert len(shown) > 2


def test_every_code_says_what_why_and_what_to_do() -> None:
    for definition in REGISTRY.values():
        assert definition.kind in Kind
        for text in (definition.what, definition.why, definition.fix):
            assert text.strip() == text
            assert text


def test_a_host_of_another_kind_is_told_plainly(host: Hosts) -> None:
    address = "0000:00:02.0"
    nic = PciFunction(
        address=address, path=f"pci0000:00/{address}", vendor="0x8086", device="0x1572", class_="0x020000", iommu="dmar0", iommu_group=1
    )
    intel = Facts(functions=(nic,), iommus=(IommuDevice(name="dmar0", members=(address,)),))
    assert {"host-not-smmuv3", "iommu-not-smmuv3"} <= found(intel)


def test_faults_of_the_aliased_card_are_told_with_their_device(host: Hosts) -> None:
    """The recording's log: F_TRANSLATION of client 0000:83:01.0, StreamID 0x8300."""
    shown = diagnose(host("arm64-virt-canwbs"))
    events = [item.finding for area in shown.areas for item in area.findings if item.finding.code == "smmu-events"]
    assert len(events) == 1
    assert "events 0x10" in events[0].what
    assert "0x8300" in events[0].what
    assert "0000:83:01.0" in events[0].what
    assert "smmu-events" not in found(replace(host("arm64-virt-canwbs").facts, moment=Moment()))


def test_an_smmu_that_failed_to_probe_explains_its_functions(host: Hosts) -> None:
    """The lines of a Grace host whose fifth SMMU was given up for a StreamID claimed twice, put to the third one here."""
    facts = host("arm64-virt").facts
    device = "arm-smmu-v3.2.auto"
    behind = {member for iommu in facts.iommus if iommu.device == device for member in iommu.members}
    lines = (
        "[    5.0] pci 0000:83:01.0: stream 33536 already in tree",
        f"[    5.0] arm-smmu-v3 {device}: Failed to register iommu",
        f"[    5.0] arm-smmu-v3 {device}: probe with driver arm-smmu-v3 failed with error -22",
    )
    broken = replace(
        facts,
        log=(*facts.log, *lines),
        iommus=tuple(iommu for iommu in facts.iommus if iommu.device != device),
        functions=tuple(replace(f, iommu=None, iommu_group=None) if f.address in behind else f for f in facts.functions),
        groups=tuple(g for g in facts.groups if not behind & set(g.devices)),
    )
    reasons = host_of(broken).verdict("0000:81:00.0").reasons
    assert reasons[0].code == "smmu-failed"
    assert "0x8300" in reasons[0].what


_CPUS = Node(id=0, cpus="0-71", memory=512 << 30, distance=" ".join(["10"] + ["20"] * 8))
_EMPTY = tuple(Node(id=n, memory=0, generic_initiator=True) for n in range(1, 9))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ((_CPUS, *_EMPTY), None),
        ((replace(_CPUS, distance=None), *_EMPTY), None),
        ((replace(_CPUS, distance="10"),), "missing"),
        ((replace(_CPUS, distance=" ".join(["10"] * 8)), *_EMPTY[:7]), "missing"),
        ((_CPUS, *_EMPTY[:7]), "unknown"),  # the eighth has a distance, and was not recorded
        ((_CPUS,), "unknown"),
        ((_CPUS, *_EMPTY[:7], Node(id=8)), "unknown"),  # recorded by its number alone
        ((_CPUS, *_EMPTY[:7], Node(id=8, memory=1 << 30)), "unknown"),  # its CPUs were not read, or are none
        ((replace(_CPUS, distance=None), *_EMPTY[:7]), "unknown"),  # nothing says how many there are
        ((), "unknown"),
    ],
)
def test_a_node_that_was_not_read_is_not_missing(nodes: tuple[Node, ...], expected: str | None) -> None:
    facts = grace(replace(host_from("arm64-virt-canwbs").facts, nodes=nodes))
    told = {item.finding.code for area in diagnose(host_of(facts)).areas for item in area.findings}
    assert {code for code in told if code.startswith("grace-gi-nodes")} == ({f"grace-gi-nodes-{expected}"} if expected else set())
