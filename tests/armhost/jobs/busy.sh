#!/bin/sh
# The inner VM that goes on: what its own init does, and then reads from the assigned NVMe for as long as its driver has it. On its console it is
# told to let the function read what is not mapped: `translated`, or `bypassed`, with its SMMU told to let everything through.
b=/bin/busybox
$b sed '$d' /init > /first # all but its end, which switches off
. /first
sh /guest.sh > /told; $b dd if=/told of=/dev/vda bs=1M 2> /dev/null; $b sync
function=$($b basename "$($b readlink -f /sys/class/nvme/nvme0/device)"); place=/sys/bus/pci/devices/$function
reads() {
    i=0
    while [ -b /dev/nvme0n1 ] && [ $i -lt 900 ]; do
        $b dd if=/dev/nvme0n1 of=/dev/null bs=4096 count=4 skip=$((i % 64 * 4)) iflag=direct 2> /dev/null
        $b usleep 300000; i=$((i + 1))
    done
}
echo reads on
reads &
{ while [ -e "$place" ]; do $b usleep 300000; done; echo INNER-LET-GO; } &

# An NVMe controller reads its queue of commands when the doorbell is rung (NVM Express base specification, 3.1.4: AQA, ASQ, ACQ, CC; doorbells at 1000h).
register() { $b devmem "$(printf '0x%x' $((bar + $1)))" 32 "$2"; }
queue_at() { # HIGH LOW: halves of the address
    echo 1 > "$place/enable"
    printf '\006' | $b dd of="$place/config" bs=1 seek=4 count=1 conv=notrunc 2> /dev/null # memory, bus master
    bar=$($b head -n 1 "$place/resource" | $b cut -d ' ' -f 1)
    register 0x14 0; $b usleep 200000
    register 0x24 0x001f001f; register 0x28 "$2"; register 0x2c "$1"; register 0x30 "$2"; register 0x34 "$1"
    register 0x14 0x00460001; $b usleep 500000
    register 0x1000 1; $b usleep 1000000
    echo "INNER-QUEUE-AT $1 $2"
}
while read -r word; do
    [ ! -e "$place/driver" ] || echo "$function" > "$place/driver/unbind"
    case $word in
        translated) queue_at 0x0 0xdead0000;;
        bypassed) echo identity > "$place/iommu_group/type"; queue_at 0x40 0xdead0000;;
    esac
done
$b sleep 300; $b poweroff -f
