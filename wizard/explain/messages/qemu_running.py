"""What QEMU says of functions beside their start: hot-plug, migration, memory that comes and goes, ROM and MSI-X; and of the other vIOMMUs.

Read in QEMU 10.2: hw/vfio, hw/pci, hw/virtio, hw/arm/virt.c.
"""

from __future__ import annotations

from wizard.explain import causes as c
from wizard.explain.model import By, Cause, Message, Nature, Proof

_Q, _S, _W, _H = By.QEMU, Proof.SOURCE, Nature.WARNING, Nature.HARMLESS
_NO_ANSWER = Cause("function-inaccessible", c.INACCESSIBLE.because, c.INACCESSIBLE.fix, facts="function-silent not-on-vfio")

_HOTPLUG = (
    Message("qemu-port-hotplug", _Q, ("Hot-plug failed: unsupported by the port device '{name}'",
        "Hot-unplug failed: unsupported by the port device '{name}'"),
        "The port has hotplug=off.", "hw/pci/pcie.c, pcie_cap_slot_pre_plug_cb()", (Cause("hotplug-without-vsmmu", "It is no port for hot-plug.",
        "Take a port that was planned for hot-plug; hotplug=off is written on this one."),), proof=_S),
    Message("qemu-port-busy", _Q, ("Hot-unplug failed: guest is busy (power indicator blinking)", "slot is electromechanically locked"),
        "The guest has not answered an earlier unplug or plug yet.", "hw/pci/pcie.c", (Cause("release-awaited",
        "The guest's driver still uses the function, or the guest is at its boot.", "Wait some seconds and ask again; look at the guest's log."),),
        nature=_W, proof=_S),
    Message("qemu-pxb-place", _Q, ("pxb-pcie devices cannot reside on a PCI bus", "pxb devices cannot reside on a PCIe bus"),
        "A pxb-pcie is on a wrong bus.", "hw/pci-bridge/pci_expander_bridge.c", (Cause("unknown-bus", "It belongs on pcie.0.", "Write bus=pcie.0."),),
        proof=_S),
    Message("qemu-fd-id", _Q, ("vfio device with fd={fd} needs an id property",), "A function that is given by its descriptor has no id.",
        "hw/vfio/device.c", fix="Write id= for it.", proof=_S),
)  # fmt: skip
_ANSWERS = (
    Message("qemu-vfio-info", _Q, ("error getting device info", "failed to get config info", "failed to get group {group} status",
        "Failed to get VFIO IOMMU info", "failed to get MSI-X irq info", "failed to read PCI MSIX FLAGS", "failed to read PCI MSIX TABLE",
        "failed to read PCI MSIX PBA", "failed reading MSI PCI_CAP_FLAGS", "unexpected number of io regions {number}",
        "unexpected number of irqs {number}", "this isn't a PCI device"), "The function, or its driver on the host, does not answer as it should.",
        "hw/vfio/pci.c, vfio_populate_device()", (_NO_ANSWER,), proof=_S, context=("vfio", "qemu", "QEMU")),
    Message("qemu-kvm-vfio", _Q, ("Failed to create KVM VFIO device", "Failed to add fd {fd} to KVM VFIO device", "KVM VFIO device isn't created yet",
        "Failed to remove fd {fd} from KVM VFIO device"), "KVM is not told of the function: it works, some accesses are slower.",
        "hw/vfio/helpers.c", nature=_H, proof=_S),
    Message("qemu-msi-fewer", _Q, ("vfio: Error: Failed to enable {number} MSI vectors, retry with {count}",
        "vfio: msix_set_vector_notifiers failed"),
        "The host gave fewer interrupts than the guest asked for.", "hw/vfio/pci.c", (Cause("",
        "The host's vectors for the function are used up.", "Nothing to do where the guest's driver works with fewer."),), nature=_W, proof=_S),
    Message("qemu-msix-place", _Q, ("No automatic MSI-X relocation available for device", "Invalid MSI-X relocation BAR {bar}"),
        "x-msix-relocation does not fit this device.", "hw/vfio/pci.c", fix="Take x-msix-relocation out.", proof=_S),
    Message("qemu-rom-read", _Q, ("vfio: Error getting ROM info", "vfio: Error reading device ROM",
        "is known to cause system instability issues during option rom execution", "has been disabled due to system instability issues"),
        "The expansion ROM is not used. A guest needs it only to boot from the device.", "hw/vfio/pci.c", (Cause("rom-unreadable",
        "The ROM can't be read, or is known to hang machines.", "Write rombar=0."),), nature=_H, proof=_S),
    Message("qemu-iova-ranges", _Q, ("Cannot get IOVA ranges", "Fallback to default 64bit IOVA range and 4K page size"),
        "The kernel did not say which addresses the SMMU has; QEMU takes all of them.", "hw/vfio/iommufd.c", (Cause("kernel-lacks",
        "iommufd did not answer.", "Use a newer kernel."),), nature=_W, proof=_S),
)  # fmt: skip
_MEMORY = (
    Message("qemu-discard", _Q, ("Cannot set discarding of RAM broken",
        "Inconsistent setting of support for discarding RAM (e.g., balloon) within group",
        "x-balloon-allowed only potentially compatible with mdev devices"),
        "The VM has virtio-mem, a balloon or the like, which gives memory back while the function may write to it.", "hw/vfio/iommufd.c",
        (Cause("", "All memory of a VM with an assigned function stays where it is.", "Take virtio-mem, virtio-balloon and memory hot-plug out."),),
        proof=_S),
    Message("qemu-discard-viommu", _Q, ("Using vfio with vIOMMUs and coordinated discarding of RAM (e.g., virtio-mem) works",
        "possibly running out of DMA mappings"),
        "virtio-mem beside assigned functions: a guest may pin more memory than it has, and mappings may run out.",
        "hw/vfio/listener.c", fix="Take virtio-mem out, or increase its block-size.", nature=_W, proof=_S),
    Message("qemu-wrong-as", _Q, ("Wrong target AS \"{name}\", only system memory is allowed",),
        "A vIOMMU leads into memory that is none of the VM's.",
        "hw/vfio/listener.c", (c.BEHIND_EMULATED,), proof=_S),
    Message("qemu-pa-bits", _Q, ("VCPU supports less PA bits ({number}) than requested by the memory map ({bits})",),
        "Memory and the MMIO window end above what the CPU reaches.", "hw/arm/virt.c", (Cause("memory-impossible",
        "The VM asks for more address space than this host's CPU has.", "Take less memory, or a smaller highmem-mmio-size."),), proof=_S),
    Message("qemu-map-limits", _Q, ("unsupported number of memory slots: {number}", "maxmem/slots too huge"), "The memory asked for has no place.",
        "hw/arm/virt.c", fix="Take less memory (maxmem, slots).", proof=_S),
)  # fmt: skip
_MIGRATION = (
    Message("qemu-dirty", _Q, ("VFIO device doesn't support device and IOMMU dirty tracking",
        "Migration is currently not supported with vIOMMU enabled",
        "Multiple VFIO devices migration is supported only if all of them support P2P migration", "doesn't support dirty tracking",
        "Migration couldn't be initialized for VFIO device"), "The VM can't be migrated with this function.", "hw/vfio/migration.c", (c.MIGRATION,),
        nature=Nature.STATE, proof=_S, context=("vfio", "VFIO", "IOMMU")),
)  # fmt: skip
_OTHER_VIOMMUS = (
    Message("qemu-multiple-iommus", _Q, ("virt machine does not support multiple IOMMUs",), "A VM has one kind of vIOMMU.", "hw/arm/virt.c",
        (c.TWO_VIOMMUS,), proof=_S),
    Message("qemu-virt-value", _Q, ("Invalid gic-version value", "Invalid iommu value", "gic-version=host requires KVM"),
        "-machine has a value that virt does not take.", "hw/arm/virt.c", (c.VALUE,), proof=_S),
    Message("qemu-flash-twice", _Q,
        ("The contents of the first flash device may be specified with -bios or with -drive if=pflash... but you cannot use both options at once",),
        "The firmware is given twice.", "hw/arm/virt.c", fix="Take -bios out.", proof=_S),
    Message("qemu-virtio-iommu", _Q, ("virtio-iommu does not support aliased BDF", "VIRTIO-IOMMU is not attached to any PCI bus!",
        "Check your machine implements a hotplug handler for the virtio-iommu-pci device", "aw-bits must be within [32,64]"),
        "The virtio-iommu does not fit the VM.", "hw/virtio/virtio-iommu.c",
        fix="Put it on pcie.0 of the virt machine, and no function behind a bridge.",
        proof=_S),
    Message("qemu-virtio-iommu-pages", _Q, ("virtio-iommu reports a page size mask {hex} incompatible with currently supported mask {size}",
        "virtio-iommu does not support frozen granule {hex}"), "The host's SMMU has another page size than the virtio-iommu.",
        "hw/virtio/virtio-iommu.c", (Cause("virtio-iommu-guest-pages", "The granule of the virtio-iommu is that of the host's pages.",
        "Write granule=host for virtio-iommu-pci."),), proof=_S),
    Message("qemu-dev-iotlb", _Q, ("SMMUv3 does not support dev-iotlb yet", "Virtio-iommu does not support dev-iotlb yet"),
        "ATS is not for devices behind this vIOMMU.", "hw/arm/smmuv3.c", (Cause("vfio-ats-needs-smmu", "The emulated vIOMMU has no ATS.",
        "Write ats=off."),),
        proof=_S),
)  # fmt: skip

MESSAGES = (*_HOTPLUG, *_ANSWERS, *_MEMORY, *_MIGRATION, *_OTHER_VIOMMUS)
