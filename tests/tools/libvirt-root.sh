# libvirt in the root of scripts/debian-tools --with libvirt (sourced by bash, as root in a mount and process namespace that ends with the script).
#
# Of the script it takes $root, and $work, which is /tmp/work in it.
#
#   mounted            makes the root usable
#   started            starts the daemons in it; ends the script when they do not answer
#   inside PROGRAM…    runs a program of the root's in it
#   virsh WORD…        asks libvirtd

: "${root:?}" "${work:?}"
device() { mknod -m 666 "$root/dev/$1" c "$2" "$3"; }
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@" < /dev/null; }
virsh() { inside virsh -q -c qemu:///system "$@"; }

mounted() {
    local part
    mount --bind "$root" "$root" # libvirt makes the mounts of the root private, which only a mount can be
    mount -t proc proc /proc
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/sys"; mkdir -p "$root"/sys/{devices,class,kernel/iommu_groups,bus/pci/devices,bus/pci/drivers/vfio-pci,fs,module}
    for part in devices class fs module; do mount --bind "/sys/$part" "$root/sys/$part"; done
    for part in dev run tmp var/lib/libvirt var/log/libvirt var/cache/libvirt; do mkdir -p "$root/$part"; mount -t tmpfs tmpfs "$root/$part"; done
    mkdir -p "$root"/run/libvirt "$root"/tmp/work "$root"/var/lib/libvirt/{qemu,images,boot} "$root"/dev/{pts,shm,vfio/devices}
    mount --bind "$work" "$root/tmp/work"
    device null 1 3; device zero 1 5; device full 1 7; device random 1 8; device urandom 1 9; device tty 5 0
    ln -s /proc/self/fd "$root/dev/fd"
}

started() {
    local tries=0
    inside /usr/sbin/virtlogd > "$work/virtlogd.log" 2>&1 &
    inside /usr/sbin/libvirtd > "$work/libvirtd.log" 2>&1 &
    until virsh uri > /dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 600 ] || { echo "libvirtd does not answer" >&2; cat "$work/libvirtd.log" >&2; exit 4; }
        sleep 0.2
    done
}
