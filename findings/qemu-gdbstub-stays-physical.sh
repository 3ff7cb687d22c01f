#!/bin/bash
# Expected: Qqemu.PhyMemMode:1 makes the gdbstub read physical addresses for the gdb that asked for it. A gdb that attaches later debugs the guest
#   by the guest's own addresses, as it always does.
# Happens: the mode is QEMU's (phy_memory_mode, a static variable of the gdbstub) and stays when the gdb that set it detaches: the next one, which never
#   asked, is in it too, and what it reads is physical memory. Nothing tells it.
# Version: Debian 12's qemu-system-arm 1:7.2+dfsg-7+deb12u18+b3. QEMU 11.1.2 does the same.
# Output seen:
#   a first gdb: mode 0
#   the one after a gdb that set the mode and detached: mode 1
# Needs: Debian 12 on amd64, apt, python3; everything is unpacked in a temporary folder.
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

"$loader" --library-path "$libraries" root/usr/bin/qemu-system-aarch64 -L root/usr/share/qemu -machine virt -cpu cortex-a57 -nodefaults -display none \
    -S -gdb "unix:$work/gdb,server=on,wait=off" &
qemu=$!
trap 'kill "$qemu"; wait "$qemu" || true; rm -rf "$work"' EXIT
for _ in $(seq 300); do [ -S gdb ] && break; sleep 0.1; done

# $PACKET#SUM, answered with +$PACKET#SUM (GDB manual, appendix E); replies that begin with T tell of the stop and answer nothing.
said=$(timeout 60 python3 - "$work/gdb" << 'END'
import re, socket, sys

def session(*packets):
    answers = []
    with socket.socket(socket.AF_UNIX) as stub:
        stub.connect(sys.argv[1])
        told = b""
        for packet in packets:
            stub.sendall(b"$%s#%02x" % (packet, sum(packet) & 255))
            while not (found := re.search(rb"\$((?!T)[^#]*)#..", told)):
                told += stub.recv(4096)
            told = told[found.end():]
            stub.sendall(b"+")
            answers.append(found[1].decode())
    return answers

print(f"a first gdb: mode {session(b'qqemu.PhyMemMode', b'D')[0]}")
session(b"Qqemu.PhyMemMode:1", b"D")
print(f"the one after a gdb that set the mode and detached: mode {session(b'qqemu.PhyMemMode', b'D')[0]}")
END
)
printf '%s\n' "$said"
[ "$said" = "a first gdb: mode 0
the one after a gdb that set the mode and detached: mode 1" ]
