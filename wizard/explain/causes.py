"""Causes that several messages share: what is behind them, the next step, and the finding that says so of a known host or plan.

``code`` is of the registry (``docs/findings.md``): a test holds them against it. ``facts`` are further codes that speak of the same fact.
"""

from __future__ import annotations

from wizard.base.finding import OnTree
from wizard.explain.model import Cause

PREPARE = "Run the preparation script (`smmu-wizard export PROFILE --format prepare`, or `smmu-wizard prepare FUNCTION`)."
CHECK = "Run `smmu-wizard check PROFILE` on the host; it names the value to write."

# The function and its group
NO_GROUP = Cause(
    "no-group", "The function has no IOMMU group: no SMMU that the kernel uses is above it.",
    "Switch the SMMU on in the firmware's setup; `smmu-wizard show FUNCTION` says what the firmware puts above it.",
    facts="no-smmu smmu-off smmu-not-used smmu-failed no-iommu-map stream-id-taken",
    on_tree=OnTree(fix="Set status of the SMMU's node to \"okay\" in the device tree, and let iommu-map of the host bridge lead there; "
    "`smmu-wizard show FUNCTION` says what the device tree puts above it."),
)  # fmt: skip
SMMU_OFF = Cause(
    "smmu-off", "This host shows no SMMU: it is off in the firmware's setup, or the firmware's IORT does not name it.",
    "Switch the SMMU (IOMMU) on in the firmware's setup, or update the firmware.", facts="no-smmu no-iommu-map",
    on_tree=OnTree("This host shows no SMMU: its node in the device tree is switched off (status), or there is none.",
    "Set status of the SMMU's node to \"okay\" in the device tree, or use the device tree that the board's vendor gives."),
)  # fmt: skip
GROUP_SHARED = Cause(
    "group-shared",
    "The function shares its IOMMU group with another one: the kernel attaches a guest's stage 1 to the whole group, and refuses the second.",
    "Use a function that is alone in its group (a slot with ACS on the whole path), or plan it without acceleration.",
    facts="group-shared-accelerated group-in-two-vms",
)  # fmt: skip
GROUP_NOT_VIABLE = Cause(
    "group-not-viable", "Another device of the same IOMMU group is on a driver of the host.",
    "Bind every function of the group to its vfio driver, or leave the group to the host. " + PREPARE,
)  # fmt: skip
GROUP_IN_TWO = Cause(
    "group-in-two-vms", "The group, or another function of it, is already held by another VM or process.",
    "See who has it open (`fuser -v /dev/vfio/N /dev/vfio/devices/vfioN`), and give the whole group to one VM.", facts="function-in-two-vms",
)  # fmt: skip
FUNCTION_IN_TWO = Cause(
    "function-in-two-vms", "The function is in the configuration of two VMs, and the other one runs.",
    "Give it to one of them; `smmu-wizard check PROFILE…` over all profiles finds such pairs.",
)  # fmt: skip
IN_USE = Cause(
    "in-use", "The host uses the device: a mounted disk, an address, or a process that has it open.",
    "Move that use elsewhere first; `smmu-wizard show FUNCTION` names it.",
)  # fmt: skip
DIRECT_REGION = Cause(
    "direct-region", "The firmware asks for memory to be mapped 1:1 for the function (an RMR), and the kernel gives such a function to nobody.",
    "Nothing can be done on this host but firmware without the RMR: use another function.", facts="one-to-one-requested",
    on_tree=OnTree("The device tree asks for memory to be mapped 1:1 for the function (iommu-addresses of a reserved-memory node), and the "
    "kernel gives such a function to nobody.", "Correct the device tree, if nothing needs that memory any more, or use another function."),
)  # fmt: skip
STREAM_IDS_MANY = Cause(
    "stream-ids-many", "The function has more than one StreamID (it sits behind a PCI bridge), and a guest can have but one for it.",
    "Move the card to a slot of PCI Express alone, or plan it without acceleration.",
)  # fmt: skip
STREAM_ID_TAKEN = Cause(
    "stream-id-taken", "Two functions behind a conventional bridge, or under a mask of iommu-map, send under one StreamID; the first one took it.",
    "Use the other function, or move the card to a slot of its own.", facts="stream-id-shared stream-id-of-group",
)  # fmt: skip
NOT_ON_VFIO = Cause(
    "not-on-vfio", "The function is on no vfio driver.", PREPARE, facts="driver-override-left",
)  # fmt: skip
OVERRIDE = Cause(
    "driver-override-left", "The function's driver_override names another driver, or was never set.",
    "Clear or set it (echo vfio-pci > /sys/bus/pci/devices/FUNCTION/driver_override), then bind the function again. " + PREPARE,
)  # fmt: skip
NO_CDEV = Cause(
    "no-vfio-cdev", "The kernel was built without CONFIG_VFIO_DEVICE_CDEV, so that no function has a /dev/vfio/devices/vfioN.",
    "Use a kernel with CONFIG_VFIO_DEVICE_CDEV=y.", facts="kernel-lacks",
)  # fmt: skip
PERMISSION = Cause(
    "", "The user of the VM may not open the device file: its owner or mode, the device cgroup, AppArmor or SELinux forbid it.",
    "Give the VM's user the file (the preparation script does), allow it in cgroup_device_acl of qemu.conf, and look for DENIED in `journalctl "
    "-k`.", errors=("EACCES", "EPERM"),
)  # fmt: skip
GONE = Cause(
    "unknown-function", "The host has no such function: its address changed, it was removed, or it is a VF that is not made.",
    "See `smmu-wizard list`; addresses may change at a reboot, and VFs have to be made again.", facts="function-gone vf-to-be-made",
)  # fmt: skip
PF_HAS_VFS = Cause(
    "pf-has-vfs", "The function is a PF that has VFs.", "Remove the VFs first (echo 0 > sriov_numvfs), or give the VFs instead of the PF.",
)  # fmt: skip
NO_RESET = Cause(
    "no-reset", "The device has no way to be reset by itself.", "Keep it with one VM, and power-cycle the host between two owners.",
)  # fmt: skip
BUS_RESET = Cause(
    "bus-reset-shared", "The function can be reset only with its whole bus, and another function on that bus is not this VM's.",
    "Give all functions of that bus to the same VM.",
)  # fmt: skip
NOT_ENDPOINT = Cause(
    "not-an-endpoint", "It is a bridge, not an endpoint.", "Give the functions below it.",
)  # fmt: skip
INACCESSIBLE = Cause(
    "function-inaccessible", "The device does not answer: it fell off the bus, lost power, or its slot is off.",
    "Look at the link of the port above it (`lspci -vv`); remove and rescan it, or power-cycle the host.", facts="function-silent",
)  # fmt: skip
SUB_PAGE = Cause(
    "sub-page-bar", "A BAR of the device is smaller than a page of the host.", "Expect it to be slow; a kernel with 4K pages maps it directly.",
)  # fmt: skip

# The kernel and iommufd
NO_IOMMUFD = Cause(
    "no-iommufd", "The kernel has no iommufd: CONFIG_IOMMUFD is off, or its module is not loaded.",
    "Load it (`modprobe iommufd`), or use a kernel with CONFIG_IOMMUFD; Debian's stock arm64 kernels have it not.",
    facts="kernel-lacks host-without-iommufd",
)  # fmt: skip
KERNEL_LACKS = Cause(
    "kernel-lacks", "The kernel was built without CONFIG_ARM_SMMU_V3_IOMMUFD (an opt-in), or is older than 6.13.",
    "Use a kernel with CONFIG_ARM_SMMU_V3_IOMMUFD=y.", errors=("EOPNOTSUPP",),
)  # fmt: skip
NO_CANWBS = Cause(
    "no-canwbs", "The root complex is not coherent by itself (IORT's CANWBS is clear, or there is a device tree), and the SMMU has no S2FWB.",
    "Under ACPI: update the firmware, so that IORT says CANWBS where the hardware is so. Under a device tree acceleration is not possible.",
    errors=("EOPNOTSUPP",), facts="canwbs-differs viommu-refused",
    on_tree=OnTree("A device tree can't say that the root complex is coherent by itself (CANWBS is of IORT alone), and the SMMU has no S2FWB.",
    "Plan without acceleration on this host (--mode none, or virtio-iommu)."),
)  # fmt: skip
NO_NESTING = Cause(
    "no-nesting", "The SMMU does not have both stages, or the kernel uses only one.", "Plan without acceleration on this host.",
    errors=("EOPNOTSUPP",),
)  # fmt: skip
FORCE_SYNC = Cause(
    "cmdq-force-sync", "The SMMU has an erratum that makes the kernel refuse nesting (2812531: a CMD_SYNC after every command).",
    "Plan without acceleration on this host.", errors=("EOPNOTSUPP",),
)  # fmt: skip
MSI = Cause(
    "msi-not-isolated", "Interrupts are not isolated on this host (GICv2m, no ITS): iommufd answers Operation not permitted.",
    "Use a host with a GIC ITS. allow_unsafe_interrupts=1 gives isolation up.", errors=("EPERM",), facts="msi-refused",
)  # fmt: skip
NO_VFIO = Cause(
    "no-vfio", "The kernel has no vfio-pci.", "Load it (`modprobe vfio-pci`), or use a kernel with CONFIG_VFIO_PCI.", facts="kernel-without-vfio",
)  # fmt: skip
PEER = Cause(
    "peer-to-peer-unmapped", "A BAR of a function can't be mapped for other devices: kernel or QEMU have no dma-buf for it (Linux before 6.19).",
    "Nothing to do, unless the VM's devices are to send data to each other directly; then update kernel and QEMU.",
)  # fmt: skip
MEMLOCK = Cause(
    "memlock", "The user of the VM may not lock enough memory: all of the guest's memory is pinned for DMA, and a page more.",
    "Raise the limit (LimitMEMLOCK=, /etc/security/limits.d, memtune hard_limit of libvirt); `smmu-wizard check PROFILE` says how much is needed.",
    errors=("ENOMEM",), facts="memlock-exceeded",
)  # fmt: skip
MEMLOCK_TWICE = Cause(
    "virtio-iommu-locks", "With a vIOMMU of the emulated kind each function may map all of the memory once more.",
    "Raise the limit to functions times memory, or use an accelerated vSMMU.", errors=("ENOMEM",),
)  # fmt: skip
RESERVED = Cause(
    "reserved-region", "Guest memory lies where the IOMMU reserves addresses for the function (the MSI window, firmware).",
    "Plan the VM with smmu-wizard, which keeps memory away from them, or take less memory.", errors=("EINVAL",), facts="msi-window-elsewhere",
)  # fmt: skip
ABOVE_IOVA = Cause(
    "memory-above-iova", "Guest memory ends above what the host's SMMU can map.", "Give the VM less memory, or a smaller MMIO window.",
    errors=("EINVAL", "ERANGE"), facts="memory-above-oas",
)  # fmt: skip
SMMUS_JOINED = Cause(
    "smmus-joined", "The function sits behind another SMMU of the host than the first one of this vSMMU.",
    "Give each SMMU of the host its own pxb-pcie and arm-smmuv3; `smmu-wizard plan` does.", errors=("EINVAL",), facts="hotplug-other-smmu",
)  # fmt: skip

# QEMU's topology and properties
EXCEEDS = Cause(
    "property-exceeds-host", "A property of the vSMMU asks for more than the SMMU of the host has.", CHECK,
    facts="hotplug-property property-unproven",
)  # fmt: skip
VALUE = Cause(
    "property-value", "QEMU takes other values for this property.", CHECK,
)  # fmt: skip
NEEDS_ACCEL = Cause(
    "property-needs-accel", "The property is one of accelerated vSMMUs alone.", "Add accel=on, or take the property out.",
)  # fmt: skip
REFUSES = Cause(
    "qemu-refuses-smmu", "QEMU's vSMMU needs what the SMMU of this host has not, and no property changes that.",
    "Plan without acceleration on this host; other VMMs need less (no 16K or 64K granule, a linear stream table).",
)  # fmt: skip
QEMU_OLD = Cause(
    "qemu-too-old", "This QEMU is too old: arm-smmuv3 as a device came with 10.2, accel with 11.0, auto values and cmdqv with 11.1.",
    "Install QEMU 11.1 or later, and see that it is the one that is started (`-version`).", facts="plan-needs-newer-qemu target-not-installed",
)  # fmt: skip
LIBVIRT_OLD = Cause(
    "libvirt-too-old", "This libvirt can't say what an accelerated vSMMU is: iommufd came with 12.1, pciBus with 11.10.",
    "Install libvirt 12.2 or later, or start the exported QEMU script.", facts="plan-needs-newer-libvirt",
)  # fmt: skip
UNKNOWN_BUS = Cause(
    "unknown-bus", "A bus, or an object, is named that is not there: misspelt, or declared behind its use.",
    "Write pxb-pcie before arm-smmuv3, both before root ports, and ports before functions.", facts="vsmmu-on-root-bus",
)  # fmt: skip
EMULATED = Cause(
    "emulated-behind-accel", "Behind an accelerated vSMMU only functions of the host may sit.",
    "Put emulated devices on pcie.0, and the accelerated vSMMU on a pxb-pcie.", facts="vsmmu-on-root-bus",
)  # fmt: skip
BEHIND_EMULATED = Cause(
    "vfio-behind-emulated", "The function is behind an arm-smmuv3 that is not accelerated: QEMU has no way to follow the guest's tables there.",
    "Add accel=on to that arm-smmuv3, or use virtio-iommu or no vIOMMU. libvirt drops accel where pciBus is missing.",
)  # fmt: skip
WITHOUT_IOMMUFD = Cause(
    "vfio-without-iommufd", "The function is given without iommufd=.",
    "Add -object iommufd,id=iommufd0 and iommufd=iommufd0; in libvirt <driver iommufd='yes'/>.",
)  # fmt: skip
AUTO = Cause(
    "auto-without-function", "Values on auto are read from the first function that is there at the start, and there is none.",
    "Write ats, ril, ssidsize and oas out, or start with a function.",
)  # fmt: skip
NO_ACPI = Cause(
    "no-firmware", "An accelerated vSMMU needs UEFI firmware and ACPI.", "Give -bios or pflash with AAVMF, and leave acpi on.", facts="no-acpi",
)  # fmt: skip
NO_KVM = Cause(
    "no-kvm", "KVM is not there, or may not be used: no /dev/kvm, no permission, or the CPU runs without EL2.",
    "Load kvm, give the user /dev/kvm, and see that the firmware starts Linux at EL2 (`dmesg | grep -i kvm`).",
)  # fmt: skip
TWO_VIOMMUS = Cause(
    "two-kinds-of-viommu", "A VM has one kind of vIOMMU.", "Take iommu=smmuv3 of -machine, or the virtio-iommu, out.",
)  # fmt: skip
ONE_BUS = Cause(
    "two-vsmmus-on-one-bus", "Two vSMMUs are on one bus.", "Give each its own pxb-pcie.",
)  # fmt: skip
BUS_NUMBER = Cause(
    "bus-number-twice", "Two pxb-pcie have the same bus_nr, or one is inside the other's range.",
    "Leave as many numbers between them as the first has root ports, and one.", facts="bus-number bus-range bus-numbers-exhausted",
)  # fmt: skip
CHASSIS = Cause(
    "chassis-twice", "Two root ports have the same chassis and slot.", "Give each root port its own chassis.", facts="chassis-range",
)  # fmt: skip
SLOT = Cause(
    "slot-twice", "The slot is taken, or out of range.", "Give each device its own addr=.", facts="slot-range guest-function-number",
)  # fmt: skip
ID = Cause(
    "id-twice", "An id is used twice.", "Give each device and object its own id.", facts="id-grammar id-reserved",
)  # fmt: skip
VSMMUS_MANY = Cause(
    "vsmmus-too-many", "The virt machine has interrupts for 16 vSMMUs.", "Plan at most 16 vSMMUs for a VM.",
)  # fmt: skip
DOORBELL = Cause(
    "no-msi-doorbell", "The VM has no ITS (its=off, msi=off), and an accelerated vSMMU needs an MSI doorbell.",
    "Leave its on and use gic-version=3.", facts="no-msi gic-impossible",
)  # fmt: skip
NUMA = Cause(
    "numa-sum", "The NUMA nodes do not add up to the memory, or a node is named that is not there.",
    "Let memory backends and nodes come to -m; `smmu-wizard check` says which does not.",
    facts="pxb-numa-node numa-host-node numa-cpus numa-nodes-too-many",
)  # fmt: skip
MMIO_SIZE = Cause(
    "mmio-window-size", "The window for 64-bit BARs has to be a power of two, and 512 GiB or more.", CHECK,
)  # fmt: skip
MMIO_SMALL = Cause(
    "mmio-window-small", "The guest's window for 64-bit BARs is smaller than the BARs of its functions.",
    "Set highmem-mmio-size (libvirt: pcihole64) to the next power of two above their sum.", facts="mmio-32-bit-full hotplug-reserve-small",
)  # fmt: skip
IO_FULL = Cause(
    "io-space-full", "The guest has no I/O port space left for its root ports.", "Set io-reserve=0 on root ports; PCI Express devices need none.",
)  # fmt: skip
CMDQV = Cause(
    "cmdqv-unfit", "The host's SMMU has no CMDQV, or one that does not fit QEMU's.", "Write cmdqv=off (or auto).",
    facts="cmdqv-not-used cmdqv-without-function",
)  # fmt: skip
CMDQV_STAYS = Cause(
    "cmdqv-first-stays", "The function that the CMDQV was set up by stays while the VM runs.", "Stop the VM to take it away.",
)  # fmt: skip
ATS = Cause(
    "vfio-ats-needs-smmu", "ats=on is written for a function whose SMMU or kernel gives it no ATS.", "Write ats=off or auto.",
    facts="ats-required property-exceeds-host",
)  # fmt: skip
MIGRATION = Cause(
    "migration-blocked", "No VM with an accelerated vSMMU can be migrated, saved or snapshotted while it runs.",
    "Shut the VM down and start it on the other host.",
)  # fmt: skip
NOT_VIRT = Cause(
    "machine-not-virt", "The machine is not virt of the aarch64 QEMU.", "Use qemu-system-aarch64 -machine virt.", facts="machine-not-in-qemu",
)  # fmt: skip
HUGEPAGES = Cause(
    "hugepages-few", "There are fewer free hugepages than the VM's memory needs.",
    "Reserve them (nr_hugepages, on the right node); they do not survive a reboot.",
    facts="hugepages-few-together hugepage-size hugepage-parts hugepages-lost",
)  # fmt: skip
MEMORY = Cause(
    "memory-over-free", "The host has not that much free memory.", "Give the VM less, or free some.", facts="memory-over-host memory-over-node",
)  # fmt: skip
CPUS = Cause(
    "cpus-impossible", "The VM asks for more CPUs than the machine or its GIC has.", "Use gic-version=3, and at most 512 CPUs.",
    facts="gic-impossible",
)  # fmt: skip
FIRMWARE_PATH = Cause(
    "path-impossible", "A file that the VM names is not there, or is no such thing.",
    "Correct the path; the preparation script copies the firmware's variables.", facts="firmware-not-described firmware-assumed",
)  # fmt: skip
GUEST_NEEDS = Cause(
    "guest-needs",
    "The guest gets no interrupts or no DMA from the device: it does not heed the firmware's RMR (before Linux 6.0, or without ACPI), "
    "or its SMMU stops the DMA.", "Boot the guest by UEFI with ACPI and a kernel of 6.0 or later; look for event records in its log.",
)  # fmt: skip
BAR_HELD = Cause(
    "bar-held", "The host's console (simpledrm, efifb) or a driver holds the BAR.",
    "See /proc/iomem; boot with initcall_blacklist=sysfb_init or unbind the console, then bind the function again.",
)  # fmt: skip
PASSTHROUGH = Cause(
    "iommu-passthrough", "The kernel runs with iommu.passthrough=1 (or was built so).",
    "Boot with iommu.passthrough=0: it does not switch assignment on.", facts="iommu-passthrough-default group-identity",
)  # fmt: skip
GRACE = Cause(
    "grace-gpu-driver", "A Grace GPU needs nvgrace_gpu_vfio_pci on the host, not vfio-pci.",
    "Bind it to nvgrace_gpu_vfio_pci; its NUMA nodes and the MMIO window have to be there too.",
    facts="grace-gpu-driver-missing grace-gpu-on-vfio-pci grace-gpu-without-nodes grace-gi-nodes-missing",
)  # fmt: skip
MAP_HOLE = Cause(
    "iommu-map-hole", "The device tree's iommu-map has no entry for the function.", "Correct iommu-map of the host bridge.", facts="no-iommu-map",
)  # fmt: skip
DEVICE_ERROR = Cause(
    "pcie-error", "The device or its link failed.", "Look at AER, DPC and link lines in the host's log; reseat or replace the card.",
    facts="port-contained function-inaccessible function-reset-failed link-down",
)  # fmt: skip
