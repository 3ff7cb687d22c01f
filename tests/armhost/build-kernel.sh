#!/bin/bash
# Build the host's kernel from Debian's linux-source-7.2 with kernel.config on top of arm64's defconfig: Debian's own arm64 image has no
# CONFIG_IOMMUFD. About 16 minutes on two cores, 6 GB while it runs; the result (6 MB) is CACHE/armhost-kernel and is never committed.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
. "$here/../../scripts/lib/debian.sh"
. "$here/../../scripts/lib/venv.sh"
SOURCE=linux-source-7.2

build_kernel() { # DIRECTORY
    local result=$1 tree=$1/source staging=$1/staging config=$here/kernel.config release option
    debian_packages "to build a kernel" gcc-aarch64-linux-gnu gcc make flex bison bc libssl-dev libelf-dev xz-utils kmod || die "The kernel can't be built without them."
    say "$SOURCE of $SUITE"
    apt_private "$CACHE/apt" "$(dpkg --print-architecture)"
    apt_one "$CACHE/apt" "$SOURCE"
    unpack_closure "$CACHE/apt" "$result/package"
    mkdir -p "$tree"
    tar -C "$tree" --strip-components=1 -xf "$result/package/usr/src/$SOURCE".tar.*
    rm -rf "$result/package"

    cd "$tree"
    export ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-
    say "configuring"
    make -s defconfig virt.config && make -s mod2noconfig
    ./scripts/kconfig/merge_config.sh -m -Q .config "$config" > /dev/null && make -s olddefconfig
    for option in DRM SOUND MEDIA_SUPPORT USB_SUPPORT WLAN WIRELESS CFG80211 BT CAN INFINIBAND MTD MMC IIO STAGING BTRFS_FS XFS_FS NFS_FS NFSD \
        CIFS XEN COMPAT FTRACE BPF_SYSCALL IPV6 NETFILTER CRYPTO_HW SCSI ATA PHYLIB HID_SUPPORT INPUT_MISC RC_CORE REGULATOR THERMAL \
        HWMON POWER_SUPPLY I2C SPI PHY MD NET_VENDOR_MELLANOX NET_VENDOR_BROADCOM NET_VENDOR_HISILICON; do ./scripts/config -d "$option"; done
    ./scripts/kconfig/merge_config.sh -m -Q .config "$config" > /dev/null; make -s olddefconfig
    say "compiling (about a quarter of an hour)"
    make -s -j"$(nproc)" Image modules > "$CACHE/kernel.log" 2>&1 || { tail -n 15 "$CACHE/kernel.log" >&2; die "the kernel does not build (its log: $CACHE/kernel.log)"; }
    release=$(cat include/config/kernel.release)
    make -s INSTALL_MOD_PATH="$staging/usr" modules_install
    PATH=$PATH:/usr/sbin:/sbin depmod -b "$staging/usr" "$release"
    mkdir -p "$staging/boot"; cp .config "$staging/boot/config-$release"
    rm -f "$staging"/usr/lib/modules/*/build "$staging"/usr/lib/modules/*/source
    tar -C "$staging" -cJf "$result/modules.tar.xz" usr boot
    xz -T0 -6kc arch/arm64/boot/Image > "$result/vmlinuz.xz"
    echo "$release" | tee "$result/kver" > "$result/version"
    cd "$here"; rm -rf "$tree" "$staging"
}

with_lock
install_root armhost-kernel "$SUITE $SOURCE $(cat "$here/build-kernel.sh" "$here/kernel.config" | cksum)" build_kernel
