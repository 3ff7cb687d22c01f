"""What stands on top of QEMU and libvirt, or around them: KubeVirt, virt-install, systemd, udev, AppArmor, SELinux, the kernel's OOM killer."""

from __future__ import annotations

from wizard.explain import causes as c
from wizard.explain.model import By, Cause, Message, Nature, Proof

_K, _M, _S, _R = By.KUBEVIRT, By.SYSTEMD, Proof.SOURCE, Proof.REPORTED
_C = Nature.CONSEQUENCE

KUBEVIRT = (
    Message("kubevirt-sync", _K, ("server error. command SyncVMI failed: {words}", "server error. command SyncVMI failed"),
        "virt-launcher's libvirt failed: its words stand behind.", "pkg/virt-handler", nature=_C, proof=_S),
    Message("kubevirt-lstat", _K, ("lstat /dev/vfio/devices/{name}: no such file or directory",
        "stat /dev/vfio/devices/{name}: no such file or directory"), "The node has no VFIO character device: KubeVirt 1.9 asks for it.",
        "virt-controller", (Cause("no-vfio-cdev", "The node's kernel is built without CONFIG_VFIO_DEVICE_CDEV or CONFIG_IOMMUFD.",
        "Use a kernel with both (Debian's stock kernel has neither).", facts="kernel-lacks no-iommufd not-on-vfio"),), proof=_R),
    Message("kubevirt-not-permitted", _K, ("HostDevice {name} is not permitted in permittedHostDevices configuration",
        "GPU {name} is not permitted in permittedHostDevices configuration"), "The device is not in KubeVirt's list.",
        "pkg/virt-api/webhooks/validating-webhook",
        fix="Add its pciVendorSelector and resourceName to permittedHostDevices of the KubeVirt object.", proof=_S),
    Message("kubevirt-gpus-match", _K, ("the number of device plugin GPU/s do not match the number of devices",
        "the number of device plugin HostDevice/s do not match the number of devices", "the number of DRA GPU/s do not match the number of devices",
        "the number of DRA HostDevice/s do not match the number of devices", "failed to create PCI device for {name}"),
        "The device plugin gave other devices than the VM asks for.", "pkg/virt-launcher/virtwrap/device/hostdevice", (Cause("not-on-vfio",
        "The functions are not bound to a vfio driver on that node, or the plugin has not seen them.",
        "Bind them, then restart virt-handler or the device plugin."),), proof=_S,
        old=("the number of GPU/s do not match the number of devices", "the number of HostDevice/s do not match the number of devices")),
    Message("kubevirt-unhealthy", _K, ("Allocate failed due to no healthy devices present; cannot allocate unhealthy devices {name}",
        "Allocate failed due to no healthy devices present"), "The device plugin holds the node's devices for unhealthy.",
        "kubelet, device manager", (Cause("not-on-vfio", "The VFIO files of the functions vanished: unbound, reset or removed.",
        "See /dev/vfio on the node.", facts="function-inaccessible"),), proof=_S),
    Message("kubevirt-no-group", _K, ("has no iommuGroup available",), "The node shows no IOMMU group for the device.",
        "harvester pcidevices-controller", (c.SMMU_OFF, c.NO_GROUP), proof=_R),
    Message("kubevirt-insufficient", _K, ("nodes are available: {words} Insufficient {name}",),
        "No node has such a device left: it is given away, or no node shows it.", "kube-scheduler", (Cause("not-on-vfio",
        "The device plugin counts functions that are on a vfio driver: none is left, or none is bound.",
        "See the nodes' allocatable resources; bind the functions on the nodes.", facts="function-in-two-vms"),), context=("gpu", "GPU",
        "nvidia.com", "vfio", "pci", "sriov", "mellanox", "amd.com", "intel.com", "kubevirt.io"), alone=False, proof=_S),
)  # fmt: skip
VIRT_INSTALL = (
    Message("virt-install-option", By.VIRT_INSTALL, ("Unknown --iommu options: {words}", "Unknown --hostdev options: {words}"),
        "This virt-install does not know the option.", "virtinst/cli.py", (Cause("libvirt-too-old",
        "virt-install is older than 5.1, which has driver.accel and the others.", "Update virt-manager, or define the exported XML with virsh."),),
        proof=_S),
    Message("virt-install-os", By.VIRT_INSTALL, ("Did not find any UEFI binary path for arch '{name}'",), "No UEFI image is known to virt-install.",
        "virtinst/domain/os.py", (Cause("no-firmware", "AAVMF is not installed.", "Install qemu-efi-aarch64."),), proof=_S),
    Message("virt-install-nodedev", By.VIRT_INSTALL, ("Did not find a matching node device for '{name}'", "Did not find node device '{name}'",
        "Node device not found: no node device with matching name '{name}'"), "The host has no such device.", "virtinst/nodedev.py", (c.GONE,),
        proof=_S),
)  # fmt: skip
_SYSFS = "The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs."
_SYSFS_WORDS = ("/sys", "bind", "sriov", "driver_override", "new_id")
_SYSFS_CAUSES = (Cause("vfio-probe-failed",
    "bind: the driver did not take the function; unbind: it is not on that driver; driver_override was not set.",
    "Set driver_override first; the kernel's log says why a driver did not take it.", ("ENODEV", "EINVAL"), "driver-override-left no-group"),
    Cause("in-use", "The function, or a VF of it, is in use: by a VM, or by a driver.",
    "Stop its user; write 0 to sriov_numvfs before another number.", ("EBUSY",), "pf-has-vfs"),
    Cause("pf-without-driver", "The driver that the function is on makes no VFs, or it is on none; for a bind: there is no such device.",
    "Bind the PF to its own driver first.", ("ENOENT",), "vf-to-be-made"),
    Cause("", "The id was written already (new_id).", "Nothing to do; use driver_override instead of new_id.", ("EEXIST",)),
    Cause("", "It takes root's rights.", "Write as root: `echo X | sudo tee FILE`.", ("EACCES", "EPERM")),
    Cause("vfs-live-too-few", "There are not so many VFs, or no room for them.", "See sriov_totalvfs and the kernel's log.", ("ERANGE", "ENOMEM",
    "ENOSPC", "ENOTTY")))  # fmt: skip
SYSTEM = (
    Message("systemd-limit", By.SYSTEMD, ("Failed to adjust resource limit RLIMIT_MEMLOCK: {errno}",
        "Failed at step LIMITS spawning {path}: {errno}"), "systemd could not set the unit's limit.", "src/core/exec-invoke.c", (Cause("memlock",
        "The manager itself may not raise it (a user session, a container).", "Set the limit in the parent, or run it as a system unit.",
        facts="memlock-exceeded"),), proof=_S),
    Message("systemd-device-policy", By.SYSTEMD, ("Failed to attach BPF device cgroup program: {errno}", "Couldn't add fd to device cgroup list"),
        "The unit's device policy could not be set.", "src/core/bpf-devices.c", (c.PERMISSION,), proof=_S),
    Message("sysfs-write", By.KERNEL, ("echo: write error: {errno}", "bash: echo: write error: {errno}",
        "-bash: echo: write error: {errno}", "printf: write error: {errno}"), _SYSFS, "drivers/base, drivers/pci", _SYSFS_CAUSES,
        context=_SYSFS_WORDS, proof=Proof.PROVOKED, surely=("ENODEV", "EBUSY", "EEXIST", "ERANGE", "EINVAL", "ENOENT", "ENOTTY")),
    Message("sysfs-tee", By.KERNEL, ("tee: '{path:quoted}': {errno}", "tee: {path}: {errno}"), _SYSFS, "drivers/base, drivers/pci", _SYSFS_CAUSES,
        context=_SYSFS_WORDS, alone=False, proof=_R),
    Message("modprobe-missing", _M, ("modprobe: FATAL: Module {name} not found in directory {path}", "modprobe: FATAL: Module {name} not found.",
        "modprobe: module {name} not found in modules.dep", "modprobe: FATAL: Module {name} not found"),
        "The running kernel has no such module.", "kmod, tools/modprobe.c", (Cause("kernel-lacks",
        "It is built in, left out of this kernel, or in another package (linux-modules-extra); or the kernel was updated and the host not booted.",
        "Look for it in /lib/modules/$(uname -r) and in modules.builtin; boot the kernel that is installed.",
        facts="no-iommufd kernel-without-vfio"),), proof=_S),
    Message("modprobe-refused", _M, ("modprobe: ERROR: could not insert '{name}': {errno}", "modprobe: can't load module {name} ({path}): {errno}"),
        "The kernel did not take the module.", "kmod, tools/modprobe.c", (Cause("",
        "Secure Boot, or lockdown, takes only modules with a signature that this kernel knows.",
        "Sign the module, or use the distribution's own.", ("EKEYREJECTED", "EPERM")),
        Cause("kernel-lacks", "The module is of another kernel.", "Boot the kernel that it was built for; run depmod.", ("ENOEXEC", "ENOENT",
        "EINVAL")),
        Cause("", "There is no such hardware for it.", "See the kernel's log.", ("ENODEV",)),
        Cause("", "It takes root's rights.", "Run it as root; in a container load it on the host.", ("EPERM", "EACCES"))), proof=_S),
    Message("oom-kill", By.KERNEL, ("Out of memory: Killed process {pid} (qemu-{words}) total-vm",
        "Memory cgroup out of memory: Killed process {pid} (qemu-{words}) total-vm", "oom-kill:constraint={words}task=qemu-"),
        "The kernel ended QEMU: the host, or the VM's cgroup, has no memory left; a VM with assigned functions holds all of its memory.",
        "mm/oom_kill.c", (c.MEMORY,
        Cause("memory-over-free", "The cgroup's limit is below the guest's memory and what QEMU needs besides.", "Raise the limit.")), proof=_S),
    Message("udev-override", By.UDEV, ("Failed to write ATTR{{words}}=\"{driver}\", ignoring: {errno}",
        "driver_override}=\"{driver}\", ignoring: {errno}"), "A udev rule could not set driver_override: the function stays on its driver.",
        "src/udev/udev-rules.c", (c.OVERRIDE,), proof=_S),
    Message("udev-group", By.UDEV, ("Unknown group '{name}', ignoring", "Failed to resolve group '{name}', ignoring: {errno}"),
        "A rule gives device files to a group that is not there: they stay root's.", "src/udev/udev-rules.c", (c.PERMISSION,), nature=Nature.WARNING,
        context=("vfio", "kvm", "iommu"), proof=_S),
    Message("udev-owner", By.UDEV, ("Failed to set owner/mode of {path} to uid={number}, gid={id}, mode={count}: {errno}",),
        "udev could not give the device file to its group: it stays root's.", "src/udev/udev-node.c", (c.PERMISSION,), nature=Nature.WARNING,
        context=("vfio", "kvm", "iommu"), proof=_S),
    Message("udev-rule", By.UDEV, ("Invalid key '{name}'.", "Invalid operator for {name}.",
        "Invalid key/value pair, ignoring", "Invalid key/value pair in file {path} on line {number}"),
        "A udev rule has a fault, and is left out.", "src/udev/udev-rules.c", nature=Nature.WARNING,
        fix="Correct the rule; `udevadm verify` checks it.", context=("vfio", "kvm", "iommu"), proof=_S),
)  # fmt: skip
AUDIT = (
    Message("apparmor-denied", By.AUDIT, ('apparmor="DENIED" operation="{name}"{opt} profile="{type}" name="{path:quoted2}"',),
        "AppArmor denied the VM a file.", "security/apparmor", (Cause("",
        "The domain's profile does not allow this path: /dev/vfio, /dev/iommu, a disk, or the firmware's variables.",
        "Add it to /etc/apparmor.d/abstractions/libvirt-qemu (or local/), then restart libvirt; a disk belongs into the XML.", facts=""),),
        context=("libvirt", "qemu", "virt", "vfio", "iommu"), proof=_S),
    Message("selinux-denied", By.AUDIT, ("SELinux is preventing {name} from {words} access on", "avc:  denied  { {words} } for",
        "avc: denied { {words} } for"), "SELinux denied it.", "security/selinux", (Cause("",
        "The label of the file or the domain's type does not allow it: virt_use_vfio, a wrong label on /dev/vfio or on a disk, a container's "
        "policy.", "See `ausearch -m avc -ts recent | audit2why`; restore labels (restorecon), set the boolean.", facts=""),), context=("vfio",
        "svirt", "qemu", "virt", "iommu"), proof=_S),
)  # fmt: skip

MESSAGES = (*KUBEVIRT, *VIRT_INSTALL, *SYSTEM, *AUDIT)
