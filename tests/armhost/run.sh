#!/bin/bash
# Boot the emulated arm64 host, run one script in it, power off, print what the script printed and end with its status.
#
#   scripts/armhost run [OPTION...] SCRIPT [DIR]
#
# SCRIPT (.sh or .py) runs as root in the host; DIR (by default SCRIPT's directory) is /job there, read-only; what it writes to /out
# comes back to --out. A program.tar in DIR is unpacked before, into PYTHONPATH. Half a minute to a minute.
#   --out DIR        where /out lands                 (default: a temporary directory, removed)
#   --canwbs         boot with CANWBS set in the IORT: the kernel then allows nesting
#   --iort FILE      the IORT to set it in            (default: the one of topology.args)
#   --vfs N          virtual functions made at boot on the igb    (default 2)
#   --append STRING  more kernel command line
#   --topology FILE  QEMU arguments, instead of topology.args
#   --inner          put the inner VM's kernel and initramfs into /out/inner, for jobs/nested.sh
#   --mem SIZE --smp N --timeout SECONDS --console FILE --verbose
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
. "$here/../../scripts/lib/debian.sh"
work=${ARMHOST_WORK:-$CACHE/armhost}
out='' vfs=2 iort='' append='' mem=3G smp=2 limit=600 console='' topology=$here/topology.args inner='' verbose=''
while [ $# -gt 0 ]; do case $1 in
    --out) out=$2; shift 2;; --vfs) vfs=$2; shift 2;; --append) append=$2; shift 2;; --topology) topology=$2; shift 2;;
    --canwbs) iort=$work/IORT.bin; shift;; --iort) iort=$2; shift 2;; --inner) inner=1; shift;; --verbose) verbose=1; shift;;
    --mem) mem=$2; shift 2;; --smp) smp=$2; shift 2;; --timeout) limit=$2; shift 2;; --console) console=$2; shift 2;;
    -*) die "armhost run: $1 is not an option" 2;; *) break;;
esac; done
[ $# -ge 1 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ -e "$work/vmlinuz" ] || die "Nothing is built in $work: scripts/armhost build"
qemu=$CACHE/debian/bin/qemu-system-aarch64
[ -x "$qemu" ] || die "There is no $qemu: scripts/debian-tools"
script=$(readlink -f "$1"); directory=$(readlink -f "${2:-$(dirname "$script")}")
case $script in "$directory"/*) job=${script#"$directory"/};; *) die "armhost run: $script is not under $directory" 2;; esac

scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
out=${out:-$scratch/out}; mkdir -p "$out"; out=$(cd "$out" && pwd); rm -f "$out"/.job.*
console=${console:-$scratch/console}
cp "$work/AAVMF_VARS.fd" "$scratch/vars.fd"
for disk in nvme0 plain; do truncate -s 64M "$scratch/$disk.img"; done
[ -z "$inner" ] || { mkdir -p "$out/inner"; cp "$work/vmlinuz" "$work/inner.img" "$out/inner/"; }
initrd=$work/initrd.img
[ -z "$iort" ] || { python3 "$here/initrd.py" canwbs "$iort" "$initrd" "$scratch/initrd.img"; initrd=$scratch/initrd.img; }
# topology.args: one or more QEMU arguments a line; # starts a comment; @T@ is a scratch directory
arguments=()
# shellcheck disable=SC2206 # options and their values, several a line
while read -r line; do case $line in ''|\#*) continue;; esac; arguments+=(${line//@T@/$scratch}); done < "$topology"

set +e
timeout "$limit" "$qemu" -nodefaults -nographic -no-reboot -serial "file:$console" -monitor none \
    -accel tcg,thread=multi,tb-size=512 -m "$mem" -smp "$smp" \
    -drive "if=pflash,unit=0,format=raw,readonly=on,file=$work/AAVMF_CODE.fd" \
    -drive "if=pflash,unit=1,format=raw,file=$scratch/vars.fd" \
    -kernel "$work/vmlinuz" -initrd "$initrd" -append "console=ttyAMA0 quiet armhost.job=$job armhost.vfs=$vfs $append" \
    -global virtio-mmio.force-legacy=false \
    -drive "if=none,id=root,file=$work/rootfs.ext4,format=raw,snapshot=on" -device virtio-blk-device,drive=root \
    -fsdev "local,id=job,path=$directory,security_model=none,readonly=on" -device virtio-9p-device,fsdev=job,mount_tag=job \
    -fsdev "local,id=out,path=$out,security_model=none" -device virtio-9p-device,fsdev=out,mount_tag=out \
    "${arguments[@]}" < /dev/null 2> "$scratch/qemu.err"
status=$?
set -e
if [ ! -s "$out/.job.rc" ]; then
    cat "$scratch/qemu.err" >&2; tail -n 40 "$console" >&2
    die "the host did not finish (QEMU ended with $status, 124 is the limit of ${limit} s); above are its last words" 125
fi
cat "$out/.job.stdout"; cat "$out/.job.stderr" >&2
[ -z "$verbose" ] || grep -a '^armhost:' "$console" >&2 || true
exit "$(cat "$out/.job.rc")"
