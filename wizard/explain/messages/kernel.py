"""What a kernel says of SMMUs, groups, VFIO and functions: Linux 7.3, with older wordings.

Most of it is the table of ``wizard.host.log.lines``, and is used from there. What that table calls a complaint (any line that speaks of a failure)
is no explanation, and is left out. The rest are lines that are facts of the boot there (a passthrough default, an alias, a 1:1 mapping), and lines
that no snapshot keeps.
"""

from __future__ import annotations

import re

from wizard.explain import causes as c
from wizard.explain.model import By, Cause, Message, Nature, Proof
from wizard.host.log import codes
from wizard.host.log.lines import COMPLAINTS, LINES, About, LineKind

_K, _P, _S, _W = By.KERNEL, Proof.BINARY, Proof.SOURCE, Nature.WARNING

_NATURES = {"error": Nature.ERROR, "warning": Nature.WARNING, "info": Nature.STATE}
_HARMLESS = frozenset({codes.ROM_UNREADABLE.code, codes.NO_PRI.code, codes.IORT_WORKED_AROUND.code, codes.WAS_ENABLED.code})
# Names of the error a probe ended with -> what is behind it, where the finding's own sentence names several.
_OF_PROBE = (
    Cause(c.NO_GROUP.code, c.NO_GROUP.because, c.NO_GROUP.fix, ("EINVAL",), c.NO_GROUP.facts),
    Cause("pf-has-vfs", "It is a PF that has VFs: vfio-pci takes it only without.", "Remove the VFs, or give them instead.", ("EBUSY",), "in-use"),
    Cause("in-use", "Something else holds the function.", "See who has it; unbind it first.", ("EBUSY",)),
    Cause("msi-not-isolated", "VFIO refuses it, since interrupts are not isolated.", c.MSI.fix, ("EPERM",)),
    c.INACCESSIBLE,
)
_DOWN = "function-inaccessible function-reset-failed port-contained link-down"  # what takes a device away
_FOLLOWS = {
    codes.COMMANDS_STUCK.code: f"ats-invalidation-timeout smmu-command-illegal smmu-command-abort smmu-service-failure {_DOWN}",
    codes.GLOBAL_ERROR.code: "smmu-service-failure smmu-command-illegal smmu-command-abort ats-invalidation-timeout",
    codes.ATC_TIMEOUT.code: f"{_DOWN} pcie-error",
    codes.PROBE_FAILED.code: "iommu-group-refused smmu-setup-failed stream-alias pf-sriov denylist function-inaccessible",
    codes.SETUP_FAILED.code: "stream-in-tree",
    codes.NOT_READY.code: "link-down port-contained",
    codes.INACCESSIBLE.code: "link-down port-contained pcie-error",
    codes.BUS_ERROR.code: "port-contained",
    codes.GROUP_REFUSED.code: "smmu-setup-failed stream-alias",
}
"""Code of a finding -> messages of the kernel that its lines follow from when they come before, without ``kernel-``."""


_SAME = {codes.MEMLOCK.code: "memlock", codes.MSI_UNSAFE.code: "msi-not-isolated", codes.MAP_HOLE.code: "no-iommu-map"}
"""Code of a finding of the log -> the finding that says the same without a log."""


def of_line(kind: LineKind) -> Message:
    """A kind of the kernel's lines as a message: its example is the wording, its finding the cause."""
    found = kind.leads_to
    number = [other for other in LINES if other.leads_to is found].index(kind)
    id = f"kernel-{found.code}" + (f"-{number + 1}" if number else "")
    who = "the SMMU" if kind.about is About.SMMU else "FUNCTION"
    why, fix = (text.replace("{subject}", who) for text in (found.why, found.fix))
    cause = Cause(found.code, why, fix, facts=_SAME.get(found.code, ""))
    return Message(
        id, _K, (kind.example,), _plain(found.what), "wizard.host.log.lines", _OF_PROBE if found is codes.PROBE_FAILED else (cause,),
        nature=Nature.HARMLESS if found.code in _HARMLESS else _NATURES[found.severity.value],
        follows=tuple(f"kernel-{name}" for name in _FOLLOWS.get(found.code, "").split()), proof=_S,
    )  # fmt: skip


def _plain(what: str) -> str:
    """The finding's first sentence without what only a host fills in."""
    text = re.sub(r": \{said\}|\{times\}|\{because\}|\{bits\}| \{rid\}", "", what).replace("{subject}", "it").replace("{driver}", "the driver")
    return re.sub(r" {2,}", " ", text[0].upper() + text[1:])


LINE_MESSAGES: dict[int, Message] = {place: of_line(kind) for place, kind in enumerate(LINES) if kind.leads_to.code not in COMPLAINTS}
"""By the place in ``wizard.host.log.lines.LINES``: the matcher of that table finds them."""

_FACTS = (
    Message("kernel-one-to-one", _K, ("Firmware has requested this device have a 1:1 IOMMU mapping",),
        "The firmware wants memory mapped 1:1 for the function; the kernel gives it to nobody.",
        "drivers/iommu/iommu.c, iommu_group_claim_dma_owner()", (c.DIRECT_REGION,)),
    Message("kernel-direct-failed", _K, ("IOMMU driver was not able to establish FW requested direct mapping.",),
        "A 1:1 mapping that the firmware asks for could not be made.", "drivers/iommu/iommu.c", (c.DIRECT_REGION,)),
    Message("kernel-stream-alias", _K, ("Aliasing StreamID {stream} (from {device}) unsupported, expect DMA to be broken",
        "Aliasing StreamID {stream} (from {device}) unsupported"), "Two functions send under one StreamID; this one was left without an IOMMU.",
        "arm-smmu-v3.c, arm_smmu_insert_master()", (c.STREAM_ID_TAKEN,), old=("Aliasing StreamID",)),
    Message("kernel-stream-in-tree", _K, ("stream {number} already in tree",),
        "Two functions send under one StreamID, and the kernel (before 6.16) gives the whole SMMU up.",
        "arm-smmu-v3.c, arm_smmu_insert_master()", (Cause("smmu-failed",
        "A StreamID was claimed twice: a card behind a conventional bridge, or a flawed IORT.",
        "Move the card behind the bridge; use a newer kernel.", facts="stream-id-taken stream-id-shared smmu-setup-failed"),), proof=_S),
    Message("kernel-passthrough", _K, ("Default domain type: Passthrough (set via kernel command line)", "Default domain type: Passthrough"),
        "The host's devices are not translated while its own drivers have them.", "drivers/iommu/iommu.c", (c.PASSTHROUGH,), nature=Nature.STATE,
        rules_out="It is no obstacle to giving a function to a VM."),
    Message("kernel-coherency", _K, ("IDR0.COHACC overridden by FW configuration ({name})",),
        "The firmware says something else of the SMMU's coherency than its registers.", "arm-smmu-v3.c", nature=_W,
        causes=(Cause("coherency-overridden", "IORT's COHACC flag, or the device tree, overrides it; without coherent walks VFIO refuses devices.",
        "Update the firmware.", facts="smmu-not-coherent"),)),
    Message("kernel-ats-refused", _K, ("SMMU doesn't support ATS to be always on", "SMMU doesn't support ATS"),
        "The device can't work without ATS, and its SMMU or root complex has none.", "arm-smmu-v3.c", (Cause("ats-required",
        "A CXL or GPU device needs ATS, which IORT or the SMMU does not give.", "Update the firmware.", facts="ats-need-unknown"),)),
    Message("kernel-ats-enable", _K, ("Failed to enable ATS (STU {number})",), "ATS could not be switched on in the device.",
        "arm-smmu-v3.c", (Cause("ats-required", "The PF of a VF has another setting, or the device refuses.", "Plan it with --ats off."),),
        nature=_W),
    Message("kernel-pasid-enable", _K, ("Failed to enable PASID",), "PASID could not be switched on.", "arm-smmu-v3.c", (Cause("pasid-path-acs",
        "The path lacks ACS, or the device refuses.", "Plan it with --ssidsize 0."),), nature=_W, context=("arm-smmu", "pci", "0000")),
    Message("kernel-rmr-bypass", _K, ("RMR SID({stream}) bypass failed",), "A stream that firmware wants to go on could not be kept.",
        "arm-smmu-v3.c", (Cause("direct-region", "IORT has an RMR for it.", "Update the firmware."),), nature=_W),
    Message("kernel-conflicting-type", _K, ("IOMMU driver error, requesting conflicting def_domain_type",),
        "Devices of one group want different domains.", "drivers/iommu/iommu.c", (Cause("group-shared",
        "Devices that need a direct mapping share a group with others.", "Use another slot."),)),
    Message("kernel-default-domain", _K, ("Failed to allocate default IOMMU domain of type {number} for group {name}",),
        "The group got another domain.", "drivers/iommu/iommu.c", nature=_W, causes=(Cause("iommu-setup-failed",
        "The SMMU's driver can't make the domain asked for.", "Look at its lines before."),)),
    Message("kernel-late-probe", _K, ("late IOMMU probe at driver bind, something fishy here!",), "The SMMU was found after the device's driver.",
        "drivers/iommu/iommu.c", nature=_W, causes=(Cause("smmu-not-used", "The SMMU's driver came late (a module, a deferred probe).",
        "Build arm-smmu-v3 into the kernel."),)),
    Message("kernel-smmuv2-blocked", _K, ("Blocked unknown Stream ID {stream}; boot with \"arm-smmu.disable_bypass=0\" to allow",),
        "An SMMUv2 stopped DMA of a device that it has no stream for.", "drivers/iommu/arm/arm-smmu", (Cause("iommu-not-smmuv3",
        "This host has an SMMUv2, which can't nest.", "Use a host with an SMMUv3.", facts="smmuv2-option"),)),
    Message("kernel-smmuv2-fault", _K, ("Unhandled context fault: fsr={hex}, iova={iova}",),
        "A device behind an SMMUv2 used an address that nothing maps.", "drivers/iommu/arm/arm-smmu", (Cause("iommu-not-smmuv3",
        "The device's driver did not map it, or unmapped it too soon.", "Update the device's driver."),), nature=_W),
)  # fmt: skip
_VFIO = (
    Message("kernel-denylist", _K, ("exists in vfio-pci device denylist, driver probing disallowed.",), "vfio-pci refuses this kind of device.",
        "drivers/vfio/pci/vfio_pci.c", (Cause("vfio-probe-failed", "It is on the list of devices that can't be isolated (QAT).",
        "Give VFs of it; disable_denylist=1 gives the protection up."),)),
    Message("kernel-pf-sriov", _K, ("Cannot bind to PF with SR-IOV enabled",), "vfio-pci does not take a PF that has VFs.",
        "drivers/vfio/pci/vfio_pci_core.c", (c.PF_HAS_VFS,)),
    Message("kernel-vf-token", _K, ("VF token required to access device", "Incorrect VF token provided for device",
        "VF token incorrectly provided, PF not bound to vfio-pci", "VF token incorrectly provided, not a PF or VF"),
        "The PF is on vfio-pci: its VFs are opened only with the PF's token.", "drivers/vfio/pci/vfio_pci_core.c", (Cause("pf-on-vfio",
        "The PF was given to vfio-pci.", "Bind the PF to its own driver, or give vf-token=UUID to both.", facts="pf-in-another-vm"),)),
    Message("kernel-vf-bound", _K, ("VF {function} bound to driver {driver} while PF bound to driver {name}",),
        "A VF is on a driver of the host while its PF is on vfio-pci.", "drivers/vfio/pci/vfio_pci_core.c", (Cause("pf-on-vfio",
        "PF and VF belong to different worlds.", "Bind the VF to vfio-pci too."),), nature=_W),
    Message("kernel-vfio-busy", _K, ("Device is currently in use, task \"{name}\" ({pid}) blocked until device is released",),
        "Somebody unbinds or removes the function while a process has it open.", "drivers/vfio/vfio_main.c", (Cause("release-awaited",
        "A VM still has it.", "Unplug it from the VM, or stop the VM."),), nature=_W),
    Message("kernel-vfio-noiommu", _K, ("vfio-noiommu device opened by user ({name}:{pid})", "Adding kernel taint for vfio-noiommu group on device"),
        "VFIO without an IOMMU: the device may write everywhere. QEMU does not use it.", "drivers/vfio", nature=_W, causes=(Cause("no-group",
        "enable_unsafe_noiommu_mode is on.", "Switch the SMMU on instead."),), proof=_S),
    Message("kernel-vfio-ids", _K, ("vfio_pci: failed to add dynamic id", "vfio_pci: invalid id string \"{name}\""),
        "An id of vfio-pci.ids= is wrong, or there already.", "drivers/vfio/pci/vfio_pci.c", (Cause("driver-override-left", "ids= is misspelt.",
        "Use driver_override instead."),), nature=_W),
    Message("kernel-intx", _K, ("Masking broken INTx support", "Hardware bug: VF reports bogus INTx pin {number}"),
        "Old-style interrupts of the device do not work; MSI does.", "drivers/vfio/pci/vfio_pci_core.c", nature=Nature.HARMLESS),
    Message("kernel-nvgrace", _K, ("nvgrace_gpu_vfio_pci: probe of {function} failed with error {error}",),
        "The Grace GPU's driver did not take it.", "drivers/vfio/pci/nvgrace-gpu", (c.GRACE, c.NO_GROUP), proof=_S),
    Message("kernel-iommufd-time", _K, ("Time out waiting for iommufd object to become free",),
        "An object of iommufd is still used when it should go; the process hung.", "drivers/iommu/iommufd/main.c", nature=_W,
        fix="Update the kernel; end the process that holds it."),
    Message("kernel-noiommu-group", _K, ("vfio-pci {function}: no iommu group", "Failed to add iommu group for device"),
        "The function has no group.", "drivers/vfio", (c.NO_GROUP,), proof=_S),
)  # fmt: skip
_PCI = (
    Message("kernel-bar-assign", _K, ("BAR {bar} [{words}]: can't assign; no space", "BAR {bar}: no space for [{words}]",
        "BAR {bar}: failed to assign [{words}]", "BAR {bar} [{words}]: failed to assign", "[{words}]: can't assign; no space"),
        "A BAR found no room: the device does not work. In a guest the window for BARs is too small; on a host the firmware's is.",
        "drivers/pci/setup-res.c", (c.MMIO_SMALL, c.IO_FULL,
        Cause("", "On a host: the firmware left too little room.", "Set Above 4G Decoding in its setup, or boot with pci=realloc.")),
        old=("can't assign mem",), proof=_S),
    Message("kernel-bar-unassigned", _K, ("Some PCI device resources are unassigned, try booting with pci=realloc",), "Some BARs have no address.",
        "drivers/pci/setup-bus.c", (c.MMIO_SMALL,), nature=Nature.CONSEQUENCE, follows=("kernel-bar-assign",)),
    Message("kernel-bar-claim", _K, ("can't claim; no compatible bridge window", "can't claim; address conflict with"),
        "A BAR lies where the bridge above does not pass it on; the kernel assigns it anew.", "drivers/pci/setup-res.c", (c.MMIO_SMALL,), nature=_W),
    Message("kernel-bridge-unusable", By.GUEST, ("devices behind bridge are unusable because [{words}] cannot be assigned for them",
        "devices behind bridge are unusable because"), "The bridge got no bus number: what is behind it is not there.",
        "drivers/pci/probe.c", (Cause("bus-range", "The range of bus numbers of its root complex is too small.",
        "Leave more numbers between pxb-pcie.", facts="bus-number-twice bus-numbers-exhausted"),)),
    Message("kernel-sriov-room", _K, ("not enough MMIO resources for SR-IOV", "can't enable {count} VFs (bus {words} out of range of",
        "SR-IOV: bus number out of range", "not enough MMIO BARs for SR-IOV", "VF bar {bar}: not enough"),
        "VFs can't be made: no room for their BARs or bus numbers.", "drivers/pci/iov.c", (Cause("vfs-live-too-few",
        "The firmware left no room below the port.", "Switch SR-IOV on in the firmware's setup; boot with pci=realloc (or pci=assign-busses).",
        facts="vf-to-be-made"),), proof=_S),
    Message("kernel-sriov-busy", _K, ("driver does not support SR-IOV configuration via sysfs",
        "{count} VFs already enabled. Disable before enabling {number} VFs", "Max {count} VFs supported"), "sriov_numvfs could not be written.",
        "drivers/pci/pci-sysfs.c", (Cause("pf-without-driver", "The PF has no driver that makes VFs, or has some already.",
        "Bind the PF to its own driver; write 0 first."),), proof=_S, context=("0000", "pci", "0:")),
    Message("kernel-unbind-hang", _K, ("task {name}:{pid} blocked for more than {number} seconds",
        "INFO: task {name}:{pid} blocked for more than {number} seconds."),
        "A task waits for a driver: an unbind while the device is in use hangs for ever.", "kernel/hung_task.c", (Cause("release-awaited",
        "A driver waits until who has the device open lets it go (a GPU: nvidia-persistenced).", "End that process before an unbind.",
        facts="in-use"),), nature=_W, proof=_S, context=("unbind", "vfio", "driverctl", "nvidia", "libvirt", "qemu")),
    Message("kernel-reset-stop", _K, ("failed to stop IOMMU for a PCI reset: {error}",), "The SMMU did not let the device be cut off for a reset.",
        "drivers/pci/pci.c", (Cause("smmu-commands-stuck", "The SMMU does not answer.", "See its lines."),)),
    Message("kernel-reset-pending", _K, ("timed out waiting for pending transaction; performing function level reset anyway",),
        "The device had requests under way when it was reset.", "drivers/pci/pci.c", nature=_W, fix="Nothing to do once; else update its firmware.",
        proof=_S),
    Message("kernel-slot-power", By.GUEST, ("pciehp: Slot({name}): Button press: will power off in 5 sec",),
        "In a guest: the host asked to unplug the function; the guest lets it go.", "drivers/pci/hotplug", nature=Nature.STATE),
    Message("kernel-kvm-el2", _K, ("kvm [{number}]: HYP mode not available", "HYP mode not available"),
        "KVM can't be used: the firmware started Linux at EL1.", "arch/arm64/kvm/arm.c", (c.NO_KVM,), proof=_S),
    Message("kernel-smmu-absent", _K, ("ACPI: IORT: no SMMU found", "OF: iommu: no iommus property"), "The firmware names no SMMU.",
        "drivers/acpi/arm64/iort.c", (c.SMMU_OFF,), proof=_S),
    Message("kernel-dmar", _K, ("DMAR: IOMMU enabled", "AMD-Vi: AMD IOMMUv2"),
        "This is an x86 host: it has no SMMUv3, and accelerated vSMMUs are no matter of it.", "drivers/iommu/intel", (Cause("machine-not-arm64",
        "It is no arm64 machine.", "Use an arm64 host."),), nature=Nature.STATE, proof=_S),
)  # fmt: skip

MESSAGES = (*_FACTS, *_VFIO, *_PCI)
