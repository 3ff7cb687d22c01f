# Failures as an administrator meets them, each with what was printed and what the host's kernel said: the logs in tests/explain/data/armhost.
#   scripts/armhost run --canwbs --inner --mem 4G --vfs 2 --out DIR tests/explain/jobs/failures.sh     all but the next one
#   scripts/armhost run --out DIR tests/explain/jobs/failures.sh                                       no-canwbs: without CANWBS, so that nothing nests
# Leaves NAME.log in /out: the words first, then a line "---- dmesg", then the kernel's. group-alone.log is QEMU's words (group-alone.err) and the
# lines of the guest's console around its SMMU's.
# shellcheck disable=SC2046,SC2054,SC2010 # what `given` prints is several words, the commas are QEMU's, names of links
set +e
FW=/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd
cp /usr/share/AAVMF/AAVMF_VARS.fd /tmp/v.fd; chmod 666 /tmp/v.fd
bind() { # FUNCTION...
    local function
    for function; do
        echo vfio-pci > "/sys/bus/pci/devices/$function/driver_override"
        [ ! -e "/sys/bus/pci/devices/$function/driver" ] || echo "$function" > "/sys/bus/pci/devices/$function/driver/unbind"
        echo "$function" > /sys/bus/pci/drivers_probe
    done
    udevadm settle
}
case_() { # NAME COMMAND...
    local name=$1; shift
    dmesg -C
    "$@" > "/out/$name.log" 2>&1 < /dev/null
    echo "status $?" > "/out/$name.status"
    { echo "---- dmesg"; dmesg; } >> "/out/$name.log"
    echo "$name $(cat "/out/$name.status")"
}
base=(-machine virt,gic-version=3,accel=kvm -cpu host -smp 1 -m 256M -nodefaults -display none -S
    -drive "if=pflash,unit=0,format=raw,readonly=on,file=$FW" -drive if=pflash,unit=1,format=raw,file=/tmp/v.fd)
iommufd=(-object iommufd,id=iommufd0)
pxb=(-device pxb-pcie,id=pcie.1,bus=pcie.0,bus_nr=8)
smmu=(-device arm-smmuv3,primary-bus=pcie.1,id=smmuv3.1,accel=on,ats=off,ril=on,ssidsize=0,oas=44)
ports=(-device pcie-root-port,id=port1,bus=pcie.1,chassis=1,slot=1 -device pcie-root-port,id=port2,bus=pcie.1,chassis=2,slot=2)
all=("${base[@]}" "${iommufd[@]}" "${pxb[@]}" "${smmu[@]}" "${ports[@]}")
qemu() { timeout -k 5 60 qemu-system-aarch64 "$@"; }
given() { echo "-device vfio-pci,host=$1,id=dev$2,iommufd=iommufd0,bus=port$2"; }

modprobe -a vfio-pci
# Without iommufd, before its module is there
if [ ! -e /dev/iommu ]; then case_ no-iommufd qemu "${all[@]}" $(given 0000:14:00.0 1); fi
modprobe iommufd
case_ not-bound qemu "${all[@]}" $(given 0000:14:00.0 1)
case_ no-such-function qemu "${all[@]}" $(given 0000:77:00.0 1)
bind 0000:14:00.0 0000:41:00.0 0000:81:00.0 0000:81:00.1

if ! grep -q canwbs /proc/cmdline && [ ! -e /out/inner ]; then
    case_ no-canwbs qemu "${all[@]}" $(given 0000:14:00.0 1)
    exit
fi
case_ group-pair qemu "${all[@]}" -device vfio-pci,host=0000:81:00.0,iommufd=iommufd0,bus=port1,id=dev0,addr=0.0,multifunction=on \
    -device vfio-pci,host=0000:81:00.1,iommufd=iommufd0,bus=port1,id=dev1,addr=0.1
case_ two-smmus qemu "${all[@]}" $(given 0000:14:00.0 1) $(given 0000:41:00.0 2)
case_ emulated-endpoint qemu "${all[@]}" $(given 0000:14:00.0 1) -device e1000e,bus=port2
case_ without-iommufd qemu "${all[@]}" -device vfio-pci,host=0000:14:00.0,bus=port1
case_ without-accel qemu "${base[@]}" "${iommufd[@]}" "${pxb[@]}" -device arm-smmuv3,primary-bus=pcie.1,id=smmuv3.1 "${ports[@]}" $(given 0000:14:00.0 1)
case_ ssidsize qemu "${base[@]}" "${iommufd[@]}" "${pxb[@]}" -device arm-smmuv3,primary-bus=pcie.1,id=s,accel=on,ssidsize=20 "${ports[@]}" $(given 0000:14:00.0 1)
case_ oas qemu "${base[@]}" "${iommufd[@]}" "${pxb[@]}" -device arm-smmuv3,primary-bus=pcie.1,id=s,accel=on,oas=48 "${ports[@]}" $(given 0000:14:00.0 1)
case_ ats qemu "${base[@]}" "${iommufd[@]}" "${pxb[@]}" -device arm-smmuv3,primary-bus=pcie.1,id=s,accel=on,ats=on "${ports[@]}" $(given 0000:14:00.0 1)
case_ cmdqv qemu "${base[@]}" "${iommufd[@]}" "${pxb[@]}" -device arm-smmuv3,primary-bus=pcie.1,id=s,accel=on,cmdqv=on "${ports[@]}" $(given 0000:14:00.0 1)
case_ auto qemu "${base[@]}" "${iommufd[@]}" "${pxb[@]}" -device arm-smmuv3,primary-bus=pcie.1,id=s,accel=on,ats=auto "${ports[@]}"
nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
cdev() { echo "/dev/vfio/devices/$(ls "/sys/bus/pci/devices/$1/vfio-dev")"; }
chmod 666 /dev/kvm
case_ permission-iommu timeout 60 "${nobody[@]}" qemu-system-aarch64 "${all[@]}" $(given 0000:14:00.0 1)
chmod 666 /dev/iommu
case_ permission-cdev timeout 60 "${nobody[@]}" qemu-system-aarch64 "${all[@]}" $(given 0000:14:00.0 1)
chmod 666 "$(cdev 0000:14:00.0)"
case_ memlock timeout 60 prlimit --memlock=8388608:8388608 "${nobody[@]}" qemu-system-aarch64 "${all[@]}" $(given 0000:14:00.0 1)
chmod 600 /dev/kvm
case_ no-kvm timeout 60 "${nobody[@]}" qemu-system-aarch64 "${all[@]}" $(given 0000:14:00.0 1)
chmod 666 /dev/kvm
cp /tmp/v.fd /tmp/v2.fd
timeout 200 qemu-system-aarch64 "${all[@]}" $(given 0000:14:00.0 1) > /dev/null 2>&1 & first=$!
for _ in $(seq 100); do if ls -l /proc/$first/fd /proc/"$(cat /proc/$first/task/$first/children)"/fd 2> /dev/null | grep -q vfio/devices; then break; fi; sleep 0.3; done
sleep 2
case_ function-in-two qemu "${all[@]/v.fd/v2.fd}" $(given 0000:14:00.0 1)
# its unbind while it is open
case_ unbind-open timeout 8 sh -c 'echo 0000:14:00.0 > /sys/bus/pci/drivers/vfio-pci/unbind'
kill $first "$(cat /proc/$first/task/$first/children)" 2> /dev/null; wait $first
# the host's own steps
case_ bind-pf-with-vfs bash -c 'd=/sys/bus/pci/devices/0000:11:00.0; echo vfio-pci > $d/driver_override; echo 0000:11:00.0 > $d/driver/unbind; echo 0000:11:00.0 > /sys/bus/pci/drivers_probe'
case_ vfs-too-many bash -c 'd=/sys/bus/pci/devices/0000:11:00.0; echo > $d/driver_override; echo 0000:11:00.0 > /sys/bus/pci/drivers_probe; echo 0 > $d/sriov_numvfs; echo 99 > $d/sriov_numvfs'
case_ vfs-change bash -c 'd=/sys/bus/pci/devices/0000:11:00.0; echo 2 > $d/sriov_numvfs; echo 3 > $d/sriov_numvfs'
case_ bind-wrong-driver bash -c 'echo 0000:41:00.0 > /sys/bus/pci/drivers/nvme/bind'
case_ module-missing modprobe nvgrace_gpu_vfio_pci_none
case_ new-id-twice bash -c 'echo 1b36 0010 > /sys/bus/pci/drivers/vfio-pci/new_id; echo 1b36 0010 > /sys/bus/pci/drivers/vfio-pci/new_id'
# a function of a group whose other one is given to nobody: the guest's SMMU refuses its commands
cp /usr/share/AAVMF/AAVMF_VARS.fd /tmp/v.fd
timeout 500 qemu-system-aarch64 "${all[@]/-S/-no-reboot}" -device vfio-pci,host=0000:81:00.0,iommufd=iommufd0,bus=port1,id=dev0,rombar=0 -m 512M \
    -serial file:/out/group-alone.console -kernel /out/inner/vmlinuz -initrd /out/inner/inner.img -append "console=ttyAMA0 iommu.passthrough=0" > /out/group-alone.err 2>&1 &
inner=$!
for _ in $(seq 500); do
    if [ "$(grep -a -A 8 'skipping command' /out/group-alone.console 2> /dev/null | grep -ac '0x[0-9a-f]\{16\}')" -ge 2 ] || grep -aq 'INNER-END\|reboot: Power' /out/group-alone.console 2> /dev/null || ! kill -0 $inner 2> /dev/null; then break; fi
    sleep 1
done
kill $inner 2> /dev/null; wait $inner
exit 0
