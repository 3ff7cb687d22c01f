"""What drivers of the devices say, on the host or in a guest, when DMA, interrupts or BARs fail: nvidia, mlx5, nvme, hns3; and UEFI's PCI bus."""

from __future__ import annotations

from wizard.explain import causes as c
from wizard.explain.model import By, Cause, Message, Nature, Proof

_D, _S, _R = By.DRIVER, Proof.SOURCE, Proof.REPORTED
_SMMU = Cause(
    "smmu-events", "The SMMU stops its DMA: look for event records at that time.", "Explain the kernel's log of the guest and of the host too.",
)  # fmt: skip
_DOWN = ("kernel-function-reset-failed", "kernel-function-inaccessible", "kernel-link-down", "kernel-port-contained")
"""What a kernel says when a device is gone: its driver's words come from that."""

NVIDIA = (
    Message("nvidia-bar", _D, ("NVRM: This PCI I/O region assigned to your NVIDIA device is invalid",
        "NVRM: BAR{bar} is {size:name} @ {address} (PCI:{device})"), "A BAR of the GPU got no address.", "NVIDIA kernel module", (c.MMIO_SMALL,
        c.BAR_HELD,
        Cause("", "On a host: Above 4G Decoding is off.", "Switch it on in the firmware's setup.")), proof=_R, follows=("kernel-bar-assign",)),
    Message("nvidia-off-bus", _D, ("GPU has fallen off the bus", "NVRM: Xid (PCI:{device}): 79"), "The GPU does not answer any more.",
        "NVIDIA kernel module", (c.INACCESSIBLE, c.DEVICE_ERROR), proof=_R),
    Message("nvidia-rm-init", _D, ("NVRM: GPU {words}: RmInitAdapter failed!", "RmInitAdapter failed!",
        "rm_init_adapter failed, device minor number {number}"),
        "The GPU did not start: on Grace the host's vfio driver, the NUMA nodes or the MMIO window; elsewhere DMA, a reset, or its firmware.",
        "NVIDIA kernel module", (c.GRACE, c.MMIO_SMALL, c.GUEST_NEEDS, c.NO_RESET, _SMMU), proof=_R, follows=("nvidia-bar", "nvidia-off-bus",
        "kernel-bar-assign", "event", *_DOWN)),
    Message("nvidia-probe", _D, ("NVRM: The NVIDIA probe routine failed for {count} device(s)", "NVRM: None of the NVIDIA devices were initialized"),
        "The driver took no GPU: the lines before say why.", "NVIDIA kernel module", nature=Nature.CONSEQUENCE, proof=_R, follows=("nvidia-bar",
        "nvidia-rm-init")),
    Message("nvidia-already-bound", _D, ("NVRM: GPU {words} is already bound to {driver}.",
        "NVRM: The NVIDIA GPU {function} (PCI ID: {words})", "NVRM: installed in this system is not supported by"),
        "The GPU is on another driver (vfio-pci): the host's NVIDIA driver can't have it.", "NVIDIA kernel module", (Cause("not-on-vfio",
        "It was given to VFIO; that is what a VM needs.", "Nothing to do for a VM.", facts="variant-driver-missing"),), nature=Nature.STATE,
        proof=_R),
    Message("nvidia-remove-busy", _D, ("NVRM: Attempting to remove device {function} with non-zero usage count!",
        "Attempting to remove minor device {words} with non-zero usage count"),
        "The GPU is unbound while a process has it open: the unbind waits for ever.", "NVIDIA kernel module", (Cause("in-use",
        "nvidia-persistenced, DCGM or a job has the GPU open.", "End them before the unbind; reboot if it hangs already.",
        facts="release-awaited"),), proof=_R),
    Message("nvidia-xid", _D, ("NVRM: Xid (PCI:{device}): {number}",),
        "The GPU reported an error of its own (NVIDIA's list of Xid numbers says which).", "NVIDIA kernel module", (_SMMU, c.DEVICE_ERROR), proof=_R),
)  # fmt: skip
NETWORK = (
    Message("mlx5-timeout", _D, ("wait_func_handle_exec_timeout",),
        "The card's firmware did not answer a command: in a guest no interrupt came, or its DMA is stopped.",
        "drivers/net/ethernet/mellanox/mlx5/core/cmd.c", (c.GUEST_NEEDS, _SMMU, c.INACCESSIBLE), proof=_S, follows=("event", *_DOWN)),
    Message("mlx5-firmware", _D, ("Firmware over {ms} MS in pre-initializing state, aborting",
        "Firmware over {ms} MS in initializing state, aborting"), "The card's firmware did not come up.",
        "drivers/net/ethernet/mellanox/mlx5/core/main.c", (c.GUEST_NEEDS, c.NO_RESET, c.INACCESSIBLE), proof=_S, context=("mlx5",)),
    Message("mlx5-health", _D, ("device's health compromised - reached miss count", "mlx5_error_sw_reset",
        "assert_var[{number}] {hex}"),
        "The card's firmware stopped.", "drivers/net/ethernet/mellanox/mlx5/core/health.c", (c.DEVICE_ERROR, c.INACCESSIBLE), proof=_S),
    Message("mlx5-probe", _D, ("mlx5_init_one failed with error code {error}", "enable hca failed",
        "mlx5_core {function}: probe with driver mlx5_core failed with error {error}"),
        "The driver did not take the card.", "drivers/net/ethernet/mellanox/mlx5/core/main.c", (c.GUEST_NEEDS, c.INACCESSIBLE, _SMMU), proof=_S,
        old=("mlx5_core: probe of {function} failed with error {error}", "mlx5_load_one failed with error code {error}"),
        follows=("mlx5-timeout", "mlx5-firmware", "event", *_DOWN)),
    Message("hns3-cmd", _D, ("hclge_cmd_send", "hclge_comm_cmd_send", "cmdq execute failed for get"),
        "The network card's firmware did not answer a command.", "drivers/net/ethernet/hisilicon/hns3", (c.GUEST_NEEDS, _SMMU, c.INACCESSIBLE),
        proof=_S, context=("hns3", "hclge")),
    Message("hns3-mbx", _D, ("VF could not get mbx({number},{count}) resp({words}", "VF failed({words}) to send mbx message to PF",
        "failed to send mbx", "could not get mbx"), "The VF got no answer of its PF: the PF has no driver, or is in a VM.",
        "drivers/net/ethernet/hisilicon/hns3/hns3vf", (Cause("pf-without-driver", "A VF needs its PF to be on its own driver on the host.",
        "Bind the PF to hns3.", facts="pf-on-vfio pf-in-another-vm"), c.GUEST_NEEDS), proof=_S, context=("hns3", "hclge", "mbx")),
    Message("hns3-reset", _D, ("hclge_reset_wait", "Wait for reset timeout", "Reset fail!", "hclge device initialization failed",
        "wait for tqp hw reset timeout", "hardware reset not finish", "hw reset timeout"), "The card did not come back from a reset.",
        "drivers/net/ethernet/hisilicon/hns3", (Cause("function-reset-failed",
        "Its reset failed.", "Power-cycle the host."), c.INACCESSIBLE), proof=_S, context=("hns3", "hclge")),
    Message("vf-pf-timeout", _D, ("Failed to communicate with PF", "Unable to send config request",
        "Admin queue command never completed",
        "PF still in reset state. Is the PF interface up?", "Failed to init adminq", "PF still resetting"),
        "The VF's driver gets no answer of its PF.", "drivers/net/ethernet/intel", (Cause("pf-without-driver",
        "A VF needs its PF to be on its own driver on the host, and up.", "Bring the PF up.", facts="pf-on-vfio pf-in-another-vm"), c.GUEST_NEEDS),
        proof=_S, context=("iavf", "ixgbevf", "i40evf", "igbvf", "ice", "vf")),
    Message("net-watchdog", _D, ("NETDEV WATCHDOG: CPU: {number}: transmit queue {count} timed out {ms} ms",),
        "The network card sends nothing any more: no interrupts, or its DMA is stopped.", "net/sched/sch_generic.c", (c.GUEST_NEEDS, _SMMU,
        c.DEVICE_ERROR), nature=Nature.WARNING, proof=_S, follows=("event",),
        old=("NETDEV WATCHDOG: {name} ({driver}): transmit queue {number} timed out",)),
)  # fmt: skip
NVME = (
    Message("nvme-timeout", _D, ("I/O {number} QID {count} timeout, completion polled",
        "I/O {number} ({words}) QID {count} timeout, completion polled",
        "I/O tag {number} ({words}) opcode {hex} ({value}) QID {count} timeout, completion polled", "timeout, completion polled"),
        "The disk worked, and its interrupt did not come: MSIs do not reach this kernel.", "drivers/nvme/host/pci.c, nvme_timeout()", (c.GUEST_NEEDS,
        c.DOORBELL), proof=_S, rules_out="DMA works: the completion was in memory."),
    Message("nvme-down", _D, ("controller is down; will reset: CSTS={hex}, PCI_STATUS={value}", "controller is down; will reset: CSTS={hex}"),
        "The disk stopped: CSTS=0xffffffff means that it does not answer at all; CSTS bit 1 that it met a fatal error, such as DMA that was "
        "stopped.", "drivers/nvme/host/pci.c, nvme_warn_reset()", (c.INACCESSIBLE, _SMMU, c.DEVICE_ERROR), proof=_S, follows=("event",
        "kernel-function-inaccessible", "kernel-port-contained")),
    Message("nvme-not-ready", _D, ("Device not ready; aborting initialisation, CSTS={hex}", "Device not ready; aborting reset, CSTS={hex}",
        "Device not ready; aborting"), "The disk did not start in time.", "drivers/nvme/host/core.c", (c.GUEST_NEEDS, _SMMU, c.NO_RESET), proof=_S,
        context=("nvme",), follows=("event",)),
    Message("nvme-removed", _D, ("Removing after probe failure status: {error}", "Disabling device after reset failure: {error}"),
        "The driver gave the disk up: the lines before say why.", "drivers/nvme/host/pci.c", nature=Nature.CONSEQUENCE, proof=_S,
        follows=("nvme-down", "nvme-timeout", "nvme-not-ready")),
    Message("nvme-io-timeout", _D, ("I/O {number} QID {count} timeout, aborting",
        "I/O tag {number} ({words}) opcode {hex} ({value}) QID {count} timeout, aborting", "QID {count} timeout, aborting",
        "QID {count} timeout, reset controller", "QID {count} timeout, disable controller"),
        "The disk did not answer: its DMA or its interrupts are stopped.", "drivers/nvme/host/pci.c", (_SMMU, c.GUEST_NEEDS, c.DEVICE_ERROR),
        proof=_S, context=("nvme",), follows=("event",)),
)  # fmt: skip
FIRMWARE = (
    Message("edk2-rejected", By.FIRMWARE, ("PciBus: [{hex}|{address}|{number}] was rejected due to resource confliction.",),
        "UEFI left the device out: its BARs found no room. The guest's kernel may still assign them.",
        "MdeModulePkg/Bus/Pci/PciBusDxe/PciLib.c", (c.MMIO_SMALL, c.IO_FULL), proof=_S),
    Message("edk2-out-of-resources", By.FIRMWARE, ("PciBus: HostBridge->SubmitResources() - Out of Resources",),
        "UEFI had no room for all BARs.", "MdeModulePkg/Bus/Pci/PciBusDxe/PciLib.c",
        (c.MMIO_SMALL, c.IO_FULL), proof=_S),
    Message("edk2-synchronous", By.FIRMWARE, ("Synchronous Exception at {hex}",), "UEFI crashed.", "ArmPkg/Drivers/CpuDxe",
        fix="Use a newer AAVMF; see whether code and variables files are of one version.", proof=_S),
    Message("edk2-no-boot", By.FIRMWARE, ("BdsDxe: failed to load Boot{hex} {words}: {name}", "BdsDxe: No bootable option or device was found.",
        "BdsDxe: failed to load Boot"), "UEFI found nothing to boot. The vSMMU has no part in it: a disk is missing, or the option is stale.",
        "MdeModulePkg/Universal/BdsDxe", (Cause("path-impossible", "The disk is not attached, or the variables file is of another VM.",
        "See the VM's disks.", facts="vars-in-two-vms"),), nature=Nature.WARNING, proof=_S),
)  # fmt: skip

MESSAGES = (*NVIDIA, *NETWORK, *NVME, *FIRMWARE)
