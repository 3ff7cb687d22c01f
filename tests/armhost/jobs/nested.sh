# An inner VM with an accelerated SMMUv3, over this host's own:
#   scripts/armhost run --canwbs --inner --mem 4G tests/armhost/jobs/nested.sh
# Prints the inner VM's console; INNER-DMA-OK is the proof that its data moved through its own SMMUv3. B is the function to assign; a file
# /job/args with QEMU arguments, one a line, replaces the default ones.
set +e
B=${B:-0000:14:00.0}; J=$(dirname "$0")
modprobe -a vfio-pci iommufd
echo vfio-pci > /sys/bus/pci/devices/$B/driver_override
echo $B > /sys/bus/pci/devices/$B/driver/unbind; echo $B > /sys/bus/pci/drivers_probe; udevadm settle
FW=/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd; cp /usr/share/AAVMF/AAVMF_VARS.fd /tmp/v.fd
if [ -e "$J/args" ]; then mapfile -t A < "$J/args"; else
# shellcheck disable=SC2054,SC2206 # commas are QEMU's; no value has a space
A=(-machine virt,gic-version=3,accel=kvm -cpu host -smp 1 -m 768M -nodefaults -display none
   -drive if=pflash,unit=0,format=raw,readonly=on,file=$FW -drive if=pflash,unit=1,format=raw,file=/tmp/v.fd
   -object iommufd,id=iommufd0
   -device pxb-pcie,id=pcie.1,bus=pcie.0,bus_nr=8
   -device arm-smmuv3,primary-bus=pcie.1,id=smmuv3.1,accel=on
   -device pcie-root-port,id=pcie.1.port1,bus=pcie.1,chassis=1,slot=1
   -device vfio-pci,host=$B,iommufd=iommufd0,bus=pcie.1.port1,id=dev0)
fi
timeout "${T:-300}" qemu-system-aarch64 "${A[@]}" -serial file:/out/inner-console -no-reboot \
    -kernel /out/inner/vmlinuz -initrd /out/inner/inner.img -append "console=ttyAMA0 iommu.passthrough=0" 2>&1 | tail -20
echo "qemu rc=${PIPESTATUS[0]}"
tr -d '\r' < /out/inner-console | grep -a -E 'INNER|smmu|event' | tail -60
dmesg | grep -iE 'vfio|iommufd|arm-smmu.*event' | tail -12
