# The whole way on a live host: prepare, probe, plan, export, and the exported command line starts an inner VM behind an accelerated SMMUv3.
# Boot with --canwbs --inner --mem 4G. Each step leaves NAME.out, NAME.err and NAME.status in /out.
mkdir -p /opt/smmu-wizard /root/vm; cp -r /job/wizard /opt/smmu-wizard/
export PYTHONPATH=/opt/smmu-wizard
python3 -m compileall -q /opt/smmu-wizard
cd /root/vm || exit

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
mkdir tree; install -m 755 /job/busy.sh tree/busy; python3 /job/initrd.py pack tree busy.img
cat /out/inner/inner.img busy.img > inner.img # the kernel unpacks one archive after the other
until_it_is() { local count=0; until "$@" 2> /dev/null; do count=$((count + 1)); [ $count -lt 3000 ] || return 1; sleep 0.1; done; } # at most five minutes
qemu() { grep -ls '^Name:.*qemu-system' /proc/[0-9]*/status | tr -dc '0-9\n' | head -n 1; }
ended() { [ -z "$(qemu)" ]; }
# shellcheck disable=SC2054 # the commas are QEMU's
console=(-chardev "socket,id=console,path=/tmp/console,server=on,wait=off,logfile=/out/inner-console" -serial chardev:console)
(step inner timeout 900 bash guest.sh -no-reboot "${console[@]}" -trace smmuv3_propagate_event -msg timestamp=on \
    -kernel /out/inner/vmlinuz -initrd inner.img -append "console=ttyAMA0 iommu.passthrough=0 rdinit=/busy") &
until_it_is grep -q "reads on" /out/inner-console
step verify smmu_wizard --replay probed.json verify guest.toml --translating 30 --yes --json
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
watching() { grep -lzx watch /proc/[0-9]*/cmdline 2> /dev/null | tr -dc '0-9\n' | head -n 1; }
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

# the same VM started without its vSMMU, paused: QEMU gives no vSMMU that is not accelerated a function, and ends
bash bind.sh > /dev/null
sed '/-device arm-smmuv3/d' guest.sh > without.sh
(step without timeout 300 bash without.sh -S) &
until_it_is test -S /run/smmu-wizard/guest/qmp
step verify-without smmu_wizard --replay probed.json verify guest.toml --json
kill "$(qemu)"; until_it_is ended; wait

# the same VM as an ordinary user's, with the limit that the preparation script wrote, and with the guest's memory alone
step limited-plan smmu_wizard --replay probed.json plan --vm limited=0000:14:00.0 --memory 768M --cpus 1 --user nobody -o .
step limited-prepare smmu_wizard --replay probed.json export limited.toml --format prepare -o limited-prepare.sh
step limited-prepare-run bash limited-prepare.sh
step limited-export smmu_wizard --replay probed.json export limited.toml --format qemu -o limited.sh
limit=$(sed -n 's/^nobody hard memlock //p' /etc/security/limits.d/smmu-wizard-nobody.conf); echo "$limit" > /out/limited-kib.out
chmod 666 /dev/kvm; install -m 755 limited.sh /tmp/ # an export is its owner's alone
starts() { # KIB: QEMU realizes everything, is told to quit before the first instruction, and ends with 0; or ends with 1
    timeout 300 prlimit --memlock=$(($1 * 1024)):$(($1 * 1024)) setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all \
        --bounding-set=-all bash /tmp/limited.sh -S -monitor stdio <<< quit
}
step limited-starts starts "$limit"
step limited-memory-alone starts $((768 * 1024))
step limited-undo bash limited-prepare.sh --undo

# and back
step undo bash prepare.sh --undo
step unbind bash bind.sh --undo
step driver-after driver
step dmesg dmesg
