#!/bin/bash
# Build the emulated arm64 host's inputs: an ext4 root with Debian's packages, UEFI firmware, a kernel with iommufd, two initramfs.
# No binfmt, loop mount, chroot or root is needed; about two minutes. Called by scripts/armhost, which says where the kernel is.
#
#   build.sh KERNEL-DIR        KERNEL-DIR holds vmlinuz.xz, modules.tar.xz and kver (build-kernel.sh)
#
# The result is CACHE/armhost: rootfs.ext4 vmlinuz initrd.img inner.img AAVMF_CODE.fd AAVMF_VARS.fd, and, when the host has been
# booted once to see that it works, IORT.bin as its kernel saw it.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
. "$here/../../scripts/lib/debian.sh"
kernel=$1

# what the host is made of; what the program depends on; what an inner VM needs
BASE="base-files base-passwd libc-bin bash dash coreutils grep sed mawk tar gzip findutils util-linux mount kmod udev busybox-static
 pciutils iproute2 python3 python3-pyudev python3-psutil python3-venv"
PROGRAM="python3-textual python3-msgspec python3-tomlkit python3-lxml python3-numpy python3-qemu-qmp python3-shtab"
INNER="qemu-system-arm qemu-efi-aarch64 ipxe-qemu"

build_host() { # DIRECTORY
    local work=$1 root=$1/root user=$1/user/usr/bin/qemu-aarch64 python
    say "arm64 packages of $SUITE"
    apt_private "$CACHE/apt-arm64" arm64
    # shellcheck disable=SC2086 # lists of package names
    apt_closure "$CACHE/apt-arm64" $BASE $PROGRAM $INNER
    say "unpacking"
    unpack_closure "$CACHE/apt-arm64" "$root"
    root_skeleton "$root"
    mkdir -p "$root"/{job,out,boot,usr/lib/modules}
    echo armhost > "$root/etc/hostname"
    install -m 755 "$here/guest-init.sh" "$root/usr/sbin/armhost-init"
    tar -C "$root" -xJf "$kernel/modules.tar.xz" --no-same-owner usr boot

    # what the packages' installation scripts would have run, run by QEMU's user emulation
    apt_private "$CACHE/apt" "$(dpkg --print-architecture)"
    apt_one "$CACHE/apt" qemu-user
    unpack_closure "$CACHE/apt" "$work/user"
    "$user" "$root/usr/sbin/ldconfig" -r "$root"
    "$user" -L "$root" "$root/usr/bin/systemd-hwdb" update --root="$root" --usr
    python=$(readlink -f "$root/usr/bin/python3")
    say "compiling Python's modules"
    PYTHONHOME=$root/usr "$user" -L "$root" "$python" -S -m compileall -q -s "$root" "$root/usr/lib/$(basename "$python")" \
        "$root/usr/lib/python3/dist-packages" > "$work/compileall.log" 2>&1 || true # a few files of lib2to3's tests never compile

    say "file system"
    PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -L armhost -O ^has_journal -m 0 -N 120000 -E root_owner=0:0 -d "$root" "$work/rootfs.ext4" \
        "$(($(du -sm "$root" | cut -f 1) * 13 / 10 + 300))M"
    xz -dc "$kernel/vmlinuz.xz" > "$work/vmlinuz"
    cp "$root/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd" "$work/AAVMF_CODE.fd"
    cp "$root/usr/share/AAVMF/AAVMF_VARS.fd" "$work/AAVMF_VARS.fd"
    ramdisk "$work" initrd < "$here/initrd-init.sh"
    ramdisk "$work" inner nvme-core nvme < "$here/inner-init.sh"
    rm -rf "$root" "$work/user"

    say "first boot"
    mkdir "$work/out"
    ARMHOST_WORK=$work "$here/run.sh" --out "$work/out" "$here/jobs/iort.sh" > "$work/version" || die "the host does not boot"
    mv "$work/out/IORT.bin" "$work/IORT.bin"
    rm -rf "$work/out"
}

# An initramfs NAME.img whose /init is on standard input, with kernel modules.
ramdisk() { # WORK NAME MODULE...
    local work=$1 name=$2 tree=$1/tree module; shift 2
    mkdir -p "$tree"/{bin,dev,proc,sys,newroot,mod}
    cp "$work/root/usr/bin/busybox" "$tree/bin/busybox"; ln -s busybox "$tree/bin/sh"
    cat > "$tree/init"; chmod 755 "$tree/init"
    for module in "$@"; do cp "$(find "$work/root/usr/lib/modules" -name "$module.ko")" "$tree/mod/"; done
    python3 "$here/initrd.py" pack "$tree" "$work/$name.img"
    rm -rf "$tree"
}

with_lock
key="$SUITE $(cat "$kernel/kver") $(cat "$here/build.sh" "$here"/*-init.sh "$here/topology.args" | cksum)"
install_root armhost "$key" build_host
