# A shared group through a real QEMU (sources: problem-31): a function of a two-function group behind an accelerated vSMMU, alone and with its companion.
# Boot with --canwbs --inner --mem 4G. Leaves two.err (QEMU's words for both) and console (what the guest of a single one says) in /out.
modprobe -a vfio-pci iommufd
for function in 0000:81:00.0 0000:81:00.1; do
    echo vfio-pci > /sys/bus/pci/devices/$function/driver_override
    [ ! -e /sys/bus/pci/devices/$function/driver ] || echo $function > /sys/bus/pci/devices/$function/driver/unbind
    echo $function > /sys/bus/pci/drivers_probe
done
udevadm settle
cp /usr/share/AAVMF/AAVMF_VARS.fd /tmp/v.fd
guest() { # LIMIT ARGUMENT...
    local limit=$1; shift
    timeout "$limit" qemu-system-aarch64 -machine virt,gic-version=3,accel=kvm -cpu host -smp 1 -m 512M -nodefaults -display none -no-reboot \
        -drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd -drive if=pflash,unit=1,format=raw,file=/tmp/v.fd \
        -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus=pcie.0,bus_nr=8 \
        -device arm-smmuv3,primary-bus=pcie.1,id=smmuv3.1,accel=on,ats=off,ril=on,ssidsize=0,oas=44 \
        -device pcie-root-port,id=port1,bus=pcie.1,chassis=1,slot=1 "$@"
}
guest 60 -device vfio-pci,host=0000:81:00.0,iommufd=iommufd0,bus=port1,id=dev0,addr=0.0,multifunction=on \
    -device vfio-pci,host=0000:81:00.1,iommufd=iommufd0,bus=port1,id=dev1,addr=0.1 > /out/two.out 2> /out/two.err
echo $? > /out/two.status
guest 500 -device vfio-pci,host=0000:81:00.0,iommufd=iommufd0,bus=port1,id=dev0,rombar=0 -serial file:/out/console \
    -kernel /out/inner/vmlinuz -initrd /out/inner/inner.img -append "console=ttyAMA0 iommu.passthrough=0" > /out/one.out 2> /out/one.err &
inner=$!
# The driver says that it skips the command, then its two words, each on a line of its own (arm_smmu_cmdq_skip_err()).
skipped() { [ "$(grep -a -A 8 'skipping command' /out/console 2> /dev/null | grep -ac '0x[0-9a-f]\{16\}')" -ge 2 ]; }
for _ in $(seq 500); do
    if skipped || grep -aq 'INNER-END\|reboot: Power' /out/console 2> /dev/null || ! kill -0 $inner 2> /dev/null; then break; fi
    sleep 1
done
kill $inner 2> /dev/null; wait $inner
echo "done" > /out/one.status
