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

mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/sys"; mkdir -p "$root"/sys/{devices,class,kernel/iommu_groups,bus/pci/devices,bus/pci/drivers/vfio-pci,fs,module}
for part in devices class fs module; do mount --bind "/sys/$part" "$root/sys/$part"; done
for part in dev run tmp var/lib/libvirt var/log/libvirt var/cache/libvirt; do mkdir -p "$root/$part"; mount -t tmpfs tmpfs "$root/$part"; done
mkdir -p "$root"/run/libvirt "$root"/tmp/work "$root"/var/lib/libvirt/{qemu,images,boot} "$root"/dev/{pts,shm,vfio/devices}
mount --bind "$work" "$root/tmp/work"
device() { mknod -m 666 "$root/dev/$1" c "$2" "$3"; }
device null 1 3; device zero 1 5; device full 1 7; device random 1 8; device urandom 1 9; device tty 5 0
ln -s /proc/self/fd "$root/dev/fd"
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

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@" < /dev/null; }
inside /usr/sbin/libvirtd > "$work/libvirtd.log" 2>&1 &
virsh() { inside virsh -q -c qemu:///system "$@"; }
tries=0
until virsh uri > /dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 600 ] || { echo "libvirtd does not answer" >&2; cat "$work/libvirtd.log" >&2; exit 4; }
    sleep 0.2
done
for xml in "$work"/*.xml; do
    name=$(basename "$xml" .xml); valid=0 status=0
    inside virt-xml-validate "/tmp/work/$name.xml" domain > "$work/$name.valid" 2>&1 || valid=$?
    virsh domxml-to-native qemu-argv "/tmp/work/$name.xml" > "$work/$name.argv" 2>&1 || status=$?
    echo "$valid $status" > "$work/$name.status"
done
