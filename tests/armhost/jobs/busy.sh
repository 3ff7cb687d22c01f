#!/bin/sh
# The inner VM that goes on: what its own init does, and then reads from the assigned NVMe for as long as that is there; then it waits for its end.
b=/bin/busybox
$b sed '$d' /init > /first # all but its end, which switches off
. /first
echo reads on
i=0
while [ -b /dev/nvme0n1 ] && [ $i -lt 900 ]; do
    $b dd if=/dev/nvme0n1 of=/dev/null bs=4096 count=4 skip=$((i % 64 * 4)) iflag=direct 2> /dev/null
    $b usleep 300000; i=$((i + 1))
done
echo INNER-LET-GO
$b sleep 300; $b poweroff -f
