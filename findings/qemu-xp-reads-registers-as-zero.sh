#!/bin/bash
# Expected: the monitor's `xp` shows a device's registers as it shows memory: xp /4wx ADDRESS is four reads of 32 bits, and what a guest
#   reads there. So a dump of an SMMUv3's page by one xp is the SMMU's registers.
# Happens: every 32-bit register is 0, without an error, and only the 64-bit ones (STRTAB_BASE, queue bases) are right. xp fetches the range
#   in one piece, which becomes accesses of 8 bytes; the SMMU answers those with its 64-bit registers, and with zero for two registers of 32
#   bits side by side. One word at a time (xp /1wx) gives the values. IDR0 = 0 looks like an SMMU that has nothing.
# Version: Debian 12's qemu-system-arm 1:7.2+dfsg-7+deb12u18+b3. QEMU 11.1.2 does the same, also under a running Linux.
# Output seen:
#   xp /8wx: IDR0 0x00000000 IDR1 0x00000000 IDR5 0x00000000
#   xp /1wx: IDR0 0x0d40101a IDR1 0x02730010 IDR5 0x00000074
# Needs: Debian 12 on amd64, apt; everything is unpacked in a temporary folder.
set -euo pipefail
version=1:7.2+dfsg-7+deb12u18+b3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir -p root archives/partial
touch status
apt-get -qq -o Dir::State::status="$work/status" -o Dir::Cache::archives="$work/archives" -o Debug::NoLocking=1 --no-install-recommends --download-only -y install \
    "qemu-system-arm=$version" > apt.log 2>&1 || { cat apt.log; exit 2; }
for package in archives/*.deb; do dpkg -x "$package" root; done
libraries=$(find root -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
loader=$(find root -name 'ld-linux-x86-64.so.2' | head -1)

# hw/arm/virt.c: the SMMU of -machine virt,iommu=smmuv3 is at 0x9050000; IDR0, IDR1 and IDR5 are at 0, 4 and 0x14 (Arm IHI 0070, 6.2.1)
words=$(printf 'xp /8wx 0x9050000\nxp /1wx 0x9050000\nxp /1wx 0x9050004\nxp /1wx 0x9050014\nquit\n' | timeout 60 "$loader" --library-path "$libraries" \
    root/usr/bin/qemu-system-aarch64 -L root/usr/share/qemu -machine virt,iommu=smmuv3 -cpu cortex-a57 -nodefaults -display none -S -monitor stdio \
    | tr -d '\r' | grep -aoE '0x[0-9a-f]{8}( |$)|^0+90500[0-9a-f]+:.*' | grep -aoE '0x[0-9a-f]{8}' | paste -sd ' ')
read -r -a seen <<< "$words"
together="xp /8wx: IDR0 ${seen[0]} IDR1 ${seen[1]} IDR5 ${seen[5]}"
alone="xp /1wx: IDR0 ${seen[8]} IDR1 ${seen[9]} IDR5 ${seen[10]}"
printf '%s\n%s\n' "$together" "$alone"
[ "$together" = "xp /8wx: IDR0 0x00000000 IDR1 0x00000000 IDR5 0x00000000" ]
[ "$alone" = "xp /1wx: IDR0 0x0d40101a IDR1 0x02730010 IDR5 0x00000074" ]
