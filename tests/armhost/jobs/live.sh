# The program on a live arm64 host, as root and as nobody, and what the usual tools say of the same moment.
# Each step leaves NAME.out, NAME.err and NAME.status in /out.

step() { # NAME COMMAND...
    local name=$1; shift
    "$@" > "/out/$name.out" 2> "/out/$name.err" < /dev/null; echo $? > "/out/$name.status"
}
nobody() { (cd / && HOME=/tmp/nobody exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"); }
smmu_wizard() { python3 -m wizard "$@"; }
mkdir -m 777 /tmp/nobody

# what the usual tools say: lspci, and the links and files of sysfs through the shell
step lspci lspci -D -nnk
step lspci-caps lspci -D -vvv
step dmesg dmesg
groups() {
    for g in /sys/kernel/iommu_groups/*; do
        echo "$(basename "$g")|$(cat "$g/type")|$(ls "$g/devices" | tr '\n' ' ')|$(tr '\n' ';' < "$g/reserved_regions")"
    done
}
step groups groups
smmus() { for d in /sys/bus/pci/devices/*; do [ ! -e "$d/iommu" ] || echo "$(basename "$d") $(basename "$(readlink -f "$d/iommu")")"; done; }
step smmus smmus

for who in root nobody; do
    as=; [ $who = root ] || as=nobody
    step list-$who $as python3 -m wizard list --json
    step doctor-$who $as python3 -m wizard doctor --json
    step record-$who $as python3 -m wizard record
    step again-$who $as python3 -m wizard record
done
