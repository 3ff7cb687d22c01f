#!/bin/bash
# What a real libvirt makes of domain XML: for each WORK/*.xml, libvirt's schemas' verdict in .valid and the QEMU command line in .argv
# (or what went wrong), with the status of each in .status. As root, in a mount and process namespace that ends with this script.
#
#   libvirt-native.sh ROOT WORK FUNCTION...       ROOT by scripts/debian-tools --with libvirt; FUNCTION as DDDD:BB:DD.F
#
# libvirt refuses <hostdev> where it finds no VFIO, so its /dev and /sys hold stand-ins for VFIO, iommufd and the functions named.
set -euo pipefail
[ "${INSIDE:-}" ] || INSIDE=1 exec unshare --mount --propagation private --pid --fork --kill-child "$0" "$@"
root=$1 work=$2; shift 2
. "$(dirname "$0")/libvirt-root.sh"
mounted
device iommu 1 3; device vfio/vfio 1 3
number=0
for function in "$@"; do
    group=$((number + 10)); sys=$root/sys/bus/pci/devices/$function
    mkdir -p "$sys/vfio-dev/vfio$number" "$root/sys/kernel/iommu_groups/$group/devices"
    echo 0x1b36 > "$sys/vendor"; echo 0x0010 > "$sys/device"; echo 0x010802 > "$sys/class"
    { printf '\066\033\020\000'; head -c 4092 /dev/zero; } > "$sys/config"
    ln -s "../../../../kernel/iommu_groups/$group" "$sys/iommu_group"
    ln -s "../../../../bus/pci/devices/$function" "$root/sys/kernel/iommu_groups/$group/devices/$function"
    ln -s ../../drivers/vfio-pci "$sys/driver"
    device "vfio/$group" 1 3; device "vfio/devices/vfio$number" 1 3
    number=$((number + 1))
done

started
for xml in "$work"/*.xml; do
    name=$(basename "$xml" .xml); valid=0 status=0
    inside virt-xml-validate "/tmp/work/$name.xml" domain > "$work/$name.valid" 2>&1 || valid=$?
    virsh domxml-to-native qemu-argv "/tmp/work/$name.xml" > "$work/$name.argv" 2>&1 || status=$?
    echo "$valid $status" > "$work/$name.status"
done
