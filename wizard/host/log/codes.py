"""What lines of the kernel's log lead to: the findings, declared; ``lines`` says which line leads to which.

In the sentences ``said`` is what the kernel wrote, ``times`` how often where it was more than once, ``because`` what its error number means.
They are of kind verdict: neither a plan nor a preparation script mends them. What was said once may be over by now, so that few are errors.
"""

from __future__ import annotations

from wizard.base.finding import SAME, Area, Definition, Kind, OnTree, Severity, define

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


def _code(code: str, severity: Severity, area: Area, *, what: str, why: str, fix: str, on_tree: OnTree = SAME) -> Definition:
    return define(code, severity, Kind.VERDICT, area, what=what, why=why, fix=fix, on_tree=on_tree)


SERVICE_FAILURE = _code(
    "smmu-service-failure", ERROR, Area.HARDWARE,
    what="{subject} has entered Service Failure Mode{times}: it translates nothing any more.",
    why="An SMMU does so on an uncorrectable error of its own (GERROR.SFM_ERR, IHI 0070 12.3): DMA of every function below it is stopped.",
    fix="Power-cycle the host; look at RAS and firmware logs, and at what the kernel's log says before it. If it comes back, the hardware is faulty.",
)  # fmt: skip
COMMANDS_STUCK = _code(
    "smmu-commands-stuck", ERROR, Area.HARDWARE,
    what="{subject} does not finish the kernel's commands{times}: {said}.",
    why="Until CMD_SYNC completes, what was unmapped may still be reached by a device. An SMMU without power or clock, a device that does not answer "
    "ATC invalidations, or an illegal command before it are the common causes.",
    fix="Stop the VMs of its functions; look at the line before the first one (CMDQ error, a reset or link that went down), and boot again.",
)  # fmt: skip
COMMAND_ILLEGAL = _code(
    "smmu-command-illegal", WARNING, Area.DRIVERS,
    what="{subject} refused a command as illegal{times}: {said}.",
    why="The kernel skips such a command, so that what it should have invalidated may still be cached. A guest behind an accelerated vSMMU can "
    "cause it: two functions of one IOMMU group, or commands that a kernel before 7.3 does not check.",
    fix="See which VM started at that time and whether its functions are each alone in their IOMMU group; update the kernel.",
)  # fmt: skip
COMMAND_ABORT = _code(
    "smmu-command-abort", ERROR, Area.HARDWARE,
    what="{subject} could not read its command queue{times}: {said}.",
    why="The queue is in ordinary memory: an abort on its fetch means broken memory, or an SMMU whose walks are not coherent as the firmware says.",
    fix="Look for memory errors (RAS, EDAC) in the log; check COHACC in the firmware's IORT; update the firmware.",
    on_tree=OnTree(fix="Look for memory errors (RAS, EDAC) in the log; check dma-coherent of its node in the device tree."),
)  # fmt: skip
ATC_TIMEOUT = _code(
    "ats-invalidation-timeout", WARNING, Area.HARDWARE,
    what="A device below {subject} did not answer an ATC invalidation{times}: {said}.",
    why="A device with ATS keeps translations of its own; until it answers, it may still use ones that were unmapped. A device that was reset, "
    "powered down or lost its link while it had ATS on is the usual cause.",
    fix="See which device was reset or failed just before it, and update its firmware; plan it with --ats off if it happens again.",
)  # fmt: skip
GLOBAL_ERROR = _code(
    "smmu-global-error", WARNING, Area.HARDWARE,
    what="{subject} reported a global error{times}: {said}{bits}.",
    why="The kernel expects none but those of its command queue; a write to a queue or an interrupt of the SMMU was lost, or it stopped.",
    fix="Read the lines that follow it in `dmesg`; look for memory errors (RAS, EDAC) and update the firmware.",
)  # fmt: skip
EVENTS_LOST = _code(
    "smmu-events-lost", WARNING, Area.DRIVERS,
    what="{subject} lost event records{times}: {said}.",
    why="Its event queue was full or could not be written: a device faults faster than the kernel reads. Later faults are lost, "
    "those of guests too.",
    fix="Find the function that faults (the event records in the log name its StreamID) and stop its VM or driver.",
)  # fmt: skip
REQUESTS_LOST = _code(
    "page-requests-lost", WARNING, Area.DRIVERS,
    what="{subject} lost page requests of its devices{times}: {said}.",
    why="The PRI queue was full or could not be written: a device that waits for an answer may hang.",
    fix="Reset the device that hangs; plan its function without page requests, or with fewer at a time.",
)  # fmt: skip
REQUEST_UNEXPECTED = _code(
    "page-request-unexpected", WARNING, Area.DRIVERS,
    what="{subject} got a page request that nobody asked for{times}: {said}.",
    why="A device uses PRI while the kernel has not switched it on for it; the kernel answers that the request failed.",
    fix="Update the device's driver and firmware; reset the function before it goes to another VM.",
)  # fmt: skip
MSI_ABORTED = _code(
    "smmu-interrupt-lost", WARNING, Area.FIRMWARE,
    what="{subject} could not send its own interrupt{times}: {said}.",
    why="Its MSI was aborted on the way to the ITS: faults and errors may stay unseen until something else wakes the driver.",
    fix="Update the firmware: IORT gives the SMMU's own DeviceID, and the interconnect has to let it reach the ITS.",
    on_tree=OnTree(fix="Correct msi-parent of its node in the device tree, which gives its DeviceID; the interconnect has to let it reach the ITS."),
)  # fmt: skip
UNREPORTED = _code(
    "smmu-interrupt-missing", WARNING, Area.FIRMWARE,
    what="{subject} has no interrupt for some of what it reports: {said}.",
    why="The firmware's IORT or device tree gives no interrupt: faults of its devices, and of guests, stay unseen.",
    fix="Update the firmware; until then look at the devices themselves when DMA fails.",
    on_tree=OnTree(
        why="The device tree gives no interrupt (interrupts and interrupt-names of its node): faults of its devices, and of guests, stay unseen.",
        fix="Correct its node in the device tree; until then look at the devices themselves when DMA fails.",
    ),
)  # fmt: skip
NO_PRI = _code(
    "smmu-no-pri-interrupt", INFO, Area.FIRMWARE,
    what="{subject} has no interrupt for its PRI queue: {said}.",
    why="Page requests of devices are not seen. Assigned functions do not need them: QEMU gives no PRI to guests.",
    fix="Nothing to do for VMs; SVA on the host itself needs firmware that gives the interrupt.",
)  # fmt: skip
LIMITED = _code(
    "smmu-limited", INFO, Area.FIRMWARE,
    what="The kernel does not use all that {subject} has, or uses it in another way: {said}.",
    why="The driver chose something that works instead; StreamIDs, addresses or table updates beyond it are not used.",
    fix="Nothing to do while every function has its IOMMU group; otherwise update kernel and firmware.",
)  # fmt: skip
WAS_ENABLED = _code(
    "smmu-was-enabled", INFO, Area.FIRMWARE,
    what="{subject} was already on when the kernel found it: {said}.",
    why="The firmware or the kernel before it (kexec, kdump) left it on; the reset stops DMA that was still running.",
    fix="Nothing to do when the devices work; otherwise boot through the firmware.",
)  # fmt: skip
SETUP_FAILED = _code(
    "smmu-setup-failed", ERROR, Area.FIRMWARE,
    what="The kernel could not set {subject} up: {said}{because}.",
    why="Without their SMMU the functions below it have no IOMMU group, and no VM can have them.",
    fix="Where memory could not be requested, see who has it (/proc/iomem); where a stream is already in tree, move the card behind the PCI bridge; "
    "else update firmware and kernel.",
)  # fmt: skip
CMDQV_UNUSED = _code(
    "cmdqv-not-used", WARNING, Area.DRIVERS,
    what="The kernel does not use the CMDQV of {subject}: {said}.",
    why="Without it no guest gets a command queue of its own, and the host's invalidations go through the SMMU's one queue.",
    fix="Look at the lines before it: memory for its queues must be contiguous (boot with more free memory), and CONFIG_TEGRA241_CMDQV must be on.",
)  # fmt: skip
CMDQV_ERROR = _code(
    "cmdqv-error", WARNING, Area.HARDWARE,
    what="The CMDQV of {subject} reported an error{times}: {said}.",
    why="A command in a queue of the host or of a guest was refused; the queue stands still until it is set up again.",
    fix="See which VM has cmdqv=on at that time, and what its guest's log says; update both kernels.",
)  # fmt: skip
SMMU_COMPLAINT = _code(
    "smmu-complaint", WARNING, Area.DRIVERS,
    what="The kernel's driver says of {subject}{times}: {said}.",
    why="This program does not know this kind of line; it tells of a failure, or of something that is not supported.",
    fix="Look at the lines around it in `dmesg`; send the line to the program's authors, so that the next version explains it.",
)  # fmt: skip

PROBE_FAILED = _code(
    "vfio-probe-failed", WARNING, Area.DRIVERS,
    what="{driver} did not take {subject}{times}: {said}{because}.",
    why="VFIO takes a function only if it has an IOMMU group and nothing else uses it. The function has no driver now.",
    fix="Error -22: put it behind an SMMU (`smmu-wizard show {subject}` says what it is behind); error -16: find what uses it. Then bind it again.",
)  # fmt: skip
INACCESSIBLE = _code(
    "function-inaccessible", WARNING, Area.HARDWARE,
    what="{subject} did not wake up{times}: {said}.",
    why="Its configuration space answers nothing: the device is gone from the bus, has no power, or its slot is off. A VM that has it sees all ones.",
    fix="Look at the link of the port above it (`lspci -vv`); remove and rescan it, or power-cycle the host; keep it from D3 with "
    "echo on > /sys/bus/pci/devices/{subject}/power/control.",
)  # fmt: skip
NOT_READY = _code(
    "function-reset-failed", WARNING, Area.HARDWARE,
    what="{subject} did not come back from a reset{times}: {said}.",
    why="VFIO resets a function whenever a VM opens or leaves it; one that does not come back can't be used until it has new power.",
    fix="Try another of its reset_method entries in /sys/bus/pci/devices/{subject}, update its firmware, and power-cycle the host.",
)  # fmt: skip
BAR_HELD = _code(
    "bar-held", WARNING, Area.DRIVERS,
    what="A BAR of {subject} is held by somebody else{times}: {said}.",
    why="Its memory is in use on the host: the firmware's console (simpledrm, efifb, boot_vga 1) or a driver that was not unbound. "
    "VFIO can't map it, and the guest's driver fails.",
    fix="See who holds the range in /proc/iomem; unbind the console's driver (simple-framebuffer, efi-framebuffer) or boot with "
    "initcall_blacklist=sysfb_init, then bind the function again.",
)  # fmt: skip
DOMAIN_REFUSED = _code(
    "iommu-attach-refused", WARNING, Area.DRIVERS,
    what="The SMMU's driver could not attach {subject} to a domain{times}: {said}.",
    why="The domain was made for another SMMU or for another number of SubstreamIDs: functions of different SMMUs, or with and without PASID, "
    "can't share one in this kernel.",
    fix="Give functions of different kinds to different VMs, or use a newer kernel, which makes a domain for each.",
)  # fmt: skip
GROUP_REFUSED = _code(
    "iommu-group-refused", WARNING, Area.DRIVERS,
    what="The kernel could not put {subject} into an IOMMU group{times}: {said}{because}.",
    why="Its default domain could not be attached: without a group VFIO refuses it (-22), and its own driver does no translated DMA.",
    fix="Look at the lines of its SMMU just before it; update kernel and firmware.",
)  # fmt: skip
IOMMU_SETUP = _code(
    "iommu-setup-failed", WARNING, Area.DRIVERS,
    what="The kernel could not set up the IOMMU for {subject}{times}: {said}.",
    why="The function keeps DMA operations that are not the IOMMU's: while a driver of the host has it, nothing translates for it as it should.",
    fix="Look at the lines of its SMMU just before it; boot again, and see that it is in an IOMMU group of a translated type.",
)  # fmt: skip
DPC = _code(
    "port-contained", WARNING, Area.HARDWARE,
    what="{subject} cut off what is below it{times}: {said}.",
    why="Downstream Port Containment took the link down after an uncorrectable error: every function below was lost at that moment, also to a VM.",
    fix="See the AER lines behind it; reseat or replace the card, update its firmware; VMs that had it must be started again.",
)  # fmt: skip
BUS_ERROR = _code(
    "pcie-error", WARNING, Area.HARDWARE,
    what="{subject} reported an uncorrected PCI Express error{times}: {said}.",
    why="Requests were lost. A VM that has the device is paused or stopped by QEMU on a fatal one (vfio: err notifier).",
    fix="See the device that the message names; reseat the card, update its firmware; a request to an address that nothing maps is an error too.",
)  # fmt: skip
LINK_DOWN = _code(
    "link-down", INFO, Area.HARDWARE,
    what="The slot of {subject} lost its card{times}: {said}.",
    why="Hot-plug removed the functions below it. That is normal when somebody pulled the card; otherwise it is a fault.",
    fix="Nothing to do if the card was pulled; otherwise put it in again.",
)  # fmt: skip
ROM_UNREADABLE = _code(
    "rom-unreadable", INFO, Area.HARDWARE,
    what="The expansion ROM of {subject} holds no boot code that can be read{times}: {said}.",
    why="It is harmless: a guest only needs the ROM to boot from the device or to show the firmware's console on it.",
    fix="Nothing to do; with QEMU, rombar=0 keeps the ROM away from the guest.",
)  # fmt: skip
MAP_HOLE = _code(
    "iommu-map-hole", WARNING, Area.FIRMWARE,
    what="The device tree's iommu-map has no entry for requester ID {rid}{times}: {said}.",
    why="The function with that ID (and all behind the same hole) has no StreamID: no IOMMU group, and no way into a VM.",
    fix="Correct iommu-map of the host bridge in the device tree, so that it covers every bus.",
)  # fmt: skip
MEMLOCK = _code(
    "memlock-exceeded", WARNING, Area.HOST,
    what="VFIO could not lock the memory of a VM{times}: {said}.",
    why="All of a VM's memory is locked for DMA; the user of QEMU may lock less (RLIMIT_MEMLOCK): VFIO_MAP_DMA failed: Cannot allocate memory.",
    fix="Raise the limit of that user or service (LimitMEMLOCK=, /etc/security/limits.d); `smmu-wizard plan` says how much a VM needs.",
)  # fmt: skip
MSI_UNSAFE = _code(
    "msi-refused", WARNING, Area.HARDWARE,
    what="VFIO refused a device, since interrupts are not isolated here{times}: {said}.",
    why="Without an ITS (GICv2m) a VM could forge interrupts of another; the kernel says no unless allow_unsafe_interrupts is set.",
    fix="Use a host with a GIC ITS; allow_unsafe_interrupts ends the isolation, and this program never plans it.",
)  # fmt: skip
RELEASE_AWAITED = _code(
    "release-awaited", WARNING, Area.HOST,
    what="Somebody waits for {subject}, which a VM still has{times}: {said}.",
    why="The function is being unbound or removed while a process has it open; the one who asked waits until it is let go.",
    fix="Unplug it from its VM (device_del), or stop the VM.",
)  # fmt: skip
BARS_RESTORED = _code(
    "reset-behind-vfio", WARNING, Area.DRIVERS,
    what="{subject} was reset behind VFIO's back{times}: {said}.",
    why="Its BARs were found empty and were written again: a bus reset of a neighbour, a reset by the device itself, or a loss of power.",
    fix="See which neighbour was reset at that time (`smmu-wizard show {subject}` names its bus and companions); give them to one VM.",
)  # fmt: skip
VFIO_COMPLAINT = _code(
    "vfio-complaint", WARNING, Area.DRIVERS,
    what="VFIO or iommufd refused something{times}: {said}.",
    why="This program does not know this kind of line; it is about {subject}.",
    fix="Look at the lines around it in `dmesg`, and at what QEMU said at that time.",
)  # fmt: skip
IORT_WORKED_AROUND = _code(
    "iort-worked-around", INFO, Area.FIRMWARE,
    what="The firmware's IORT is flawed in a way that the kernel works around{times}: {said}.",
    why="The kernel knows this flaw from many firmwares (an ID count that is one too high, memory that is not aligned) and corrects it.",
    fix="Nothing to do; tell the vendor when you update the firmware.",
)  # fmt: skip
IORT_COMPLAINT = _code(
    "iort-complaint", WARNING, Area.FIRMWARE,
    what="The kernel complains of the firmware's IORT{times}: {said}.",
    why="What it could not read of the table it leaves out: StreamIDs, reserved memory or interrupts of some device may be missing.",
    fix="Update the firmware, or send the vendor this line and the table (/sys/firmware/acpi/tables/IORT).",
)  # fmt: skip
