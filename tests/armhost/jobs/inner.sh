# The whole way on a live host: prepare, probe, plan, export, and the exported command line starts an inner VM behind an accelerated SMMUv3.
# Boot with --canwbs --inner --mem 4G. Each step leaves NAME.out, NAME.err and NAME.status in /out.
mkdir -p /root/vm; cd /root/vm || exit

step() { # NAME COMMAND...
    local name=$1; shift
    "$@" > "/out/$name.out" 2> "/out/$name.err" < /dev/null; echo $? > "/out/$name.status"
}
smmu_wizard() { python3 -m wizard "$@"; }
nvme=/sys/bus/pci/devices/0000:14:00.0
driver() { basename "$(readlink -f "$nvme/driver")"; cat "$nvme/driver_override"; }

# first contact
step driver-before driver
step bind smmu_wizard prepare 0000:14:00.0 -o bind.sh
step bind-run bash bind.sh
step driver-bound driver
step probe smmu_wizard record --probe --yes -o probed.json
cp probed.json /out/probe.out
step list smmu_wizard --replay probed.json list --json

# the plan, its script, its command line
step plan smmu_wizard --replay probed.json plan --vm guest=0000:14:00.0 --memory 768M --cpus 1 -o .
cp guest.toml /out/
step check smmu_wizard --replay probed.json check guest.toml
step prepare smmu_wizard --replay probed.json export guest.toml --format prepare -o prepare.sh
step prepare-run bash prepare.sh
step export smmu_wizard --replay probed.json export guest.toml --format qemu -o guest.sh
step export-json smmu_wizard --replay probed.json export guest.toml --format qemu-json -o guest.json
cp guest.sh guest.json prepare.sh /out/

# the exported VM, which goes on reading while it is looked at from outside
mkdir tree; install -m 755 /job/busy.sh tree/busy; install -m 755 /job/looks.sh tree/looks; smmu_wizard verify --guest-script > tree/guest.sh
python3 /job/initrd.py pack tree more.img
cat /out/inner/inner.img more.img > inner.img # the kernel unpacks one archive after the other
boots() { # NAME INITRD APPEND MORE...: the exported VM. What its guest tells goes to NAME.told: a serial port takes a millisecond for each letter
    local name=$1 initrd=$2 append=$3; shift 3
    truncate -s 4M "$name.told"
    step "$name" timeout 900 bash guest.sh -no-reboot "$@" -kernel /out/inner/vmlinuz -initrd "$initrd" -append "console=ttyAMA0 quiet $append" \
        -drive "if=none,id=told,format=raw,file=$name.told" -device virtio-blk-pci,drive=told,bus=pcie.0,addr=0x1f
}
until_it_is() { local count=0; until "$@" 2> /dev/null; do count=$((count + 1)); [ $count -lt 3000 ] || return 1; sleep 0.1; done; } # at most five minutes
qemu() { grep -ls '^Name:.*qemu-system' /proc/[0-9]*/status | tr -dc '0-9\n' | head -n 1; }
ended() { [ -z "$(qemu)" ]; }
# shellcheck disable=SC2054 # the commas are QEMU's
console=(-chardev "socket,id=console,path=/tmp/console,server=on,wait=off,logfile=/out/inner-console" -serial chardev:console)
boots inner inner.img "iommu.passthrough=0 rdinit=/busy" "${console[@]}" -trace smmuv3_propagate_event -msg timestamp=on &
until_it_is grep -q "reads on" /out/inner-console
step verify smmu_wizard --replay probed.json verify guest.toml --guest inner.told --translating 30 --yes --json
sed 's/^bus_nr = .*/bus_nr = 32/' guest.toml > other.toml
step verify-other-bus smmu_wizard --replay probed.json verify other.toml --json

# its function reads what is not mapped: by its guest's tables, then with its guest's SMMU letting everything through
step dmesg-reading dmesg
tell() { # WORD: what the inner VM does, until it has done it
    python3 - "$1" <<'PYTHON'
import socket, sys
with socket.socket(socket.AF_UNIX) as console:
    console.settimeout(120)
    console.connect("/tmp/console")
    console.sendall(sys.argv[1].encode() + b"\n")
    said = b""
    while b"INNER-QUEUE-AT" not in said:
        more = console.recv(4096)
        assert more, "the VM has ended"
        said += more
PYTHON
}
# not the grep itself: its word is another
watching() { grep -lzx 'watc[h]' /proc/[0-9]*/cmdline 2> /dev/null | tr -dc '0-9\n' | head -n 1; }
(step watch smmu_wizard watch guest --profile guest.toml --json) &
until_it_is grep -q "QEMU's events" /out/watch.err
python3 -c 'import time; open("/dev/kmsg", "w").write(f"smmu-wizard: it is {time.time():.6f}\n")' # the kernel's clock beside the one on the wall
step translated tell translated
until_it_is grep -q '"source":"qemu","kind":"F_' /out/watch.out
step bypassed tell bypassed
until_it_is grep -q '"source":"kernel","kind":"F_' /out/watch.out
kill "$(watching)"; until_it_is test -s /out/watch.status
step unplug bash -c "echo 0000:14:00.0 > $nvme/driver/unbind" # QEMU unplugs it by itself, and the guest agrees
until_it_is grep -q INNER-LET-GO /out/inner-console
step verify-unplugged smmu_wizard --replay probed.json verify guest.toml --json
kill "$(qemu)"; until_it_is ended; wait

# guests that are wrong: one that bypasses, one without a driver for the SMMU, one whose firmware tells nothing of the MSI window
bash bind.sh > /dev/null
python3 -c 'import sys; from wizard.facts.treetext import read_tree
sys.stdout.buffer.write(read_tree(sys.stdin.buffer.read(), "told").files["sys/firmware/acpi/tables/IORT"])' < inner.told > IORT
python3 /job/initrd.py without-rmr IORT inner.img without-rmr.img
wrong() { # NAME INITRD APPEND
    boots "$1" "$2" "rdinit=/looks $3" -serial "file:/out/$1-console" &
    until_it_is grep -q "reads on" "/out/$1-console"
    step "verify-$1" smmu_wizard --replay probed.json verify guest.toml --guest "$1.told" --translating 2 --yes --json
    kill "$(qemu)"; until_it_is ended; wait
}
wrong bypasses inner.img "iommu.passthrough=1 looks=20"
wrong without-driver inner.img "initcall_blacklist=arm_smmu_driver_init deferred_probe_timeout=0 looks=20"
wrong without-window without-rmr.img "iommu.passthrough=0 looks=2"

# VMs that are wrong, paused: without the vSMMU (QEMU gives no vSMMU that is not accelerated a function, and ends), the function elsewhere, no hugepages
paused() { # NAME SCRIPT VERIFY...
    local name=$1 script=$2; shift 2
    (step "$name" timeout 300 bash "$script" -S) &
    until_it_is test -S /run/smmu-wizard/guest/qmp
    for profile in "$@"; do step "verify-$name-$(basename "$profile" .toml)" smmu_wizard --replay probed.json verify "$profile" --json; done
    kill "$(qemu)"; until_it_is ended; wait
}
sed '/-device arm-smmuv3/d' guest.sh > without.sh
sed 's/^hugepages = .*/hugepages = "2M"/' guest.toml > huge.toml
paused without without.sh guest.toml huge.toml
sed -e 's/accel=on.*/accel=off/' -e 's/virt-11\.[0-9]*,/virt-11.0,/' -e 's/bus=pcie\.1\.port1,addr=0x0,iommufd/bus=other,addr=0x0,iommufd/' \
    -e '/id=pcie.1.port1/a -device pcie-root-port,id=other,bus=pcie.0,addr=0x1e,chassis=9' guest.sh > elsewhere.sh
paused elsewhere elsewhere.sh guest.toml
step huge-export smmu_wizard --replay probed.json export huge.toml --format qemu -o huge.sh
step huge-none timeout 300 bash huge.sh -S # nothing is reserved
echo 400 > /proc/sys/vm/nr_hugepages
paused huge huge.sh huge.toml
echo 0 > /proc/sys/vm/nr_hugepages
sed 's/accel=on.*/accel=off/' guest.sh > accel-off.sh
step accel-off timeout 300 bash accel-off.sh -S

# the same VM as an ordinary user's, with the limit that the preparation script wrote, and with the guest's memory alone
step limited-plan smmu_wizard --replay probed.json plan --vm limited=0000:14:00.0 --memory 768M --cpus 1 --user nobody -o .
step limited-prepare smmu_wizard --replay probed.json export limited.toml --format prepare -o limited-prepare.sh
step limited-prepare-run bash limited-prepare.sh
step limited-export smmu_wizard --replay probed.json export limited.toml --format qemu -o limited.sh
limit=$(sed -n 's/^nobody hard memlock //p' /etc/security/limits.d/smmu-wizard-nobody.conf); echo "$limit" > /out/limited-kib.out
chmod 666 /dev/kvm; install -m 755 limited.sh /tmp/ # an export is its owner's alone
as_nobody() { # KIB SCRIPT MORE...
    local limit=$(($1 * 1024)); shift
    timeout 300 prlimit --memlock=$limit:$limit setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all --bounding-set=-all bash "$@"
}
starts() { # KIB: QEMU realizes everything, is told to quit before the first instruction, and ends with 0; or ends with 1
    as_nobody "$1" /tmp/limited.sh -S -monitor stdio <<< quit
}
step limited-starts starts "$limit"
step limited-memory-alone starts $((768 * 1024))
sed '/-device vfio-pci/d' limited.sh > /tmp/later.sh; chmod 755 /tmp/later.sh # it runs: the function is to be plugged later, and will not fit
(step later as_nobody 8192 /tmp/later.sh -S) &
until_it_is test -S /run/smmu-wizard/limited/qmp
step verify-later smmu_wizard --replay probed.json verify limited.toml --json
kill "$(qemu)"; until_it_is ended; wait
step limited-undo bash limited-prepare.sh --undo

# and back
step undo bash prepare.sh --undo
step unbind bash bind.sh --undo
step driver-after driver
step dmesg dmesg
