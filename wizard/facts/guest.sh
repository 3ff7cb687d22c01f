#!/bin/sh
# What `smmu-wizard verify --guest` wants to know of a guest, as text on standard output: for guests without Python, also over a serial console.
#     sh guest.sh > guest.txt
# It reads, and changes nothing. Root sees more: configuration space and the firmware's table. POSIX sh; readlink, od and sed of any system.
LC_ALL=C
export LC_ALL
echo '# smmu-wizard tree 1'
lines() { # FILE
    [ -r "$1" ] || return 0
    echo "= $1"
    sed 's/^/|/' "$1" 2> /dev/null
    echo
}
bytes() { # FILE
    [ -r "$1" ] || return 0
    echo "+ $1"
    od -An -v -tx1 "$1" 2> /dev/null | sed 's/^/|/'
}
link() { # LINK
    [ ! -L "$1" ] || echo "> $1 $(readlink "$1")"
}
# A directory that is there and empty is an answer, too.
for place in /sys/bus/pci/devices /sys/class/iommu /sys/kernel/iommu_groups /sys/firmware/acpi/tables; do [ ! -d "$place" ] || echo "/ $place"; done
for file in /proc/version /proc/cmdline /proc/modules /sys/module/iommu/parameters/passthrough; do lines "$file"; done
for device in /sys/bus/pci/devices/*; do
    [ -e "$device/vendor" ] || continue
    link "$device"
    real=$(readlink -f "$device")
    for name in uevent vendor device subsystem_vendor subsystem_device class revision modalias resource numa_node driver_override; do lines "$real/$name"; done
    bytes "$real/config"
    for name in driver iommu iommu_group physfn; do link "$real/$name"; done
done
for iommu in /sys/class/iommu/*; do
    [ -e "$iommu" ] || continue
    link "$iommu"
    real=$(readlink -f "$iommu")
    link "$real/device"
    for member in "$real"/devices/*; do link "$member"; done
done
for group in /sys/kernel/iommu_groups/*; do
    [ -e "$group" ] || continue
    for name in type reserved_regions; do lines "$group/$name"; done
    for member in "$group"/devices/*; do link "$member"; done
done
bytes /sys/firmware/acpi/tables/IORT
if dmesg > /dev/null 2>&1; then
    echo '= /dmesg'
    dmesg | sed 's/^/|/'
    echo
fi
echo '# smmu-wizard tree end'
