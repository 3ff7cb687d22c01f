#!/bin/bash
# Expected: QEMU gives every bus a name of its own. A pcie-root-port without an id on a machine whose root bus is pcie.0 makes pcie.1, the
#   next one pcie.2, and `bus=` reaches each of them.
# Happens: the first one's bus is called pcie.0 too, the next one's pcie.1. Names are counted by the class of the bus, and the host bridge
#   has named its own without being counted (hw/core/bus.c, qbus_init_internal). `bus=pcie.0` is the root bus, so nothing can be put behind
#   the first port; `bus=pcie.1` is the second port: the number is one less than its place, and moves when a port in front of it gets an id.
# Version: Debian 12's qemu-system-arm 1:7.2+dfsg-7+deb12u18+b3. QEMU 11.1.2 does the same.
# Output seen:
#   buses called pcie.0: 2, pcie.1: 1, pcie.2: 1, pcie.3: 0
#   virtio-rng with bus=pcie.1 is behind the port of chassis 2
#   with an id on the port of chassis 1, the same words are behind the port of chassis 3
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

tree() { # OPTION...: QEMU's own tree of devices
    printf 'info qtree\nquit\n' | timeout 60 "$loader" --library-path "$libraries" root/usr/bin/qemu-system-aarch64 -L root/usr/share/qemu -machine virt \
        -nodefaults -display none -S -monitor stdio "$@" | tr -d '\r'
}
behind() { # the chassis of the port that the virtio-rng of a tree is behind
    awk '/dev: pcie-root-port/ { chassis = "" } / chassis = / { chassis = $3 } /dev: virtio-rng-pci/ { print chassis }'
}
called() { grep -c "bus: $1\$" <<< "$2" || true; }

ports=(-device "pcie-root-port,chassis=2" -device "pcie-root-port,chassis=3")
all=$(tree -device pcie-root-port,chassis=1 "${ports[@]}")
plain=$(tree -device pcie-root-port,chassis=1 "${ports[@]}" -device virtio-rng-pci,bus=pcie.1 | behind)
named=$(tree -device pcie-root-port,chassis=1,id=first "${ports[@]}" -device virtio-rng-pci,bus=pcie.1 | behind)
seen="buses called pcie.0: $(called pcie.0 "$all"), pcie.1: $(called pcie.1 "$all"), pcie.2: $(called pcie.2 "$all"), pcie.3: $(called pcie.3 "$all")
virtio-rng with bus=pcie.1 is behind the port of chassis $plain
with an id on the port of chassis 1, the same words are behind the port of chassis $named"
echo "$seen"
[ "$seen" = "buses called pcie.0: 2, pcie.1: 1, pcie.2: 1, pcie.3: 0
virtio-rng with bus=pcie.1 is behind the port of chassis 2
with an id on the port of chassis 1, the same words are behind the port of chassis 3" ] || { echo "changed"; exit 1; }
