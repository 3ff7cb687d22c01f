# ---- functions: who has them open, their drivers, their VFs ----

# The device files of a function, as paths below /dev: by its sysfs (DEVNAME of each `dev` below it), and NVIDIA's own, which are in no class.
# What hangs on a USB controller is not of the function: nobody waits for it.
files_of() { # ADDRESS [WHAT]: of block devices with WHAT=disks, else the others
    local real dev name one minor
    real=$(readlink -f "$sys/bus/pci/devices/$1")
    while IFS= read -r dev; do
        name=$(sed -n 's/^DEVNAME=//p' "${dev%/dev}/uevent" 2>/dev/null || true)
        [ -n "$name" ] || case $dev in
            */drm/*) name=dri/$(basename "${dev%/dev}");;
            */infiniband_*/*) name=infiniband/$(basename "${dev%/dev}");;
            */sound/*) name=snd/$(basename "${dev%/dev}");;
            */vfio-dev/*) name=vfio/devices/$(basename "${dev%/dev}");;
            *) name=$(basename "${dev%/dev}");;
        esac
        case $(link_name "${dev%/dev}/subsystem")$dev in block* | */block/*) one=disks;; *) one='';; esac
        if [ "$one" = "${2-}" ]; then printf '%s\n' "$name"; fi
    done < <(find "$real/" -type d -name 'usb[0-9]*' -prune -o -name dev -type f -print 2>/dev/null)
    if [ -n "${2-}" ]; then return; fi
    for one in "$real/vfio-dev"/*; do [ ! -e "$one" ] || printf 'vfio/devices/%s\n' "$(basename "$one")"; done
    # macvtap gives a network card's queues to a VM; its file is below the interface that stands on the card.
    for one in "$real"/net/*/upper_* "$real"/*/net/*/upper_*; do
        for dev in "$one"/tap*/dev "$one"/macvtap/tap*/dev; do [ ! -e "$dev" ] || printf '%s\n' "$(basename "${dev%/dev}")"; done
    done
    case $(driver_of "$1") in
        *vfio*) [ ! -e "$real/iommu_group" ] || printf 'vfio/%s\n' "$(link_name "$real/iommu_group")";;
        nvidia*)
            minor=$(sed -n 's/^Device Minor:[[:space:]]*//p' "/proc/driver/nvidia/gpus/$1/information" 2>/dev/null || true)
            printf 'nvidia%s\n' "${minor:-[0-9]*}";;
    esac
}
unit_of() { # PID: the systemd unit that it belongs to
    sed -n 's|.*/\([^/]*\.\(service\|scope\)\)\(/.*\)\{0,1\}$|\1|p' "/proc/$1/cgroup" 2>/dev/null | tail -n 1 || true
}
writes() { # /proc/PID/fd/N: who only looks at a disk (multipathd, smartd) is in nobody's way
    local flags
    flags=$(sed -n 's/^flags:[[:space:]]*//p' "${1%/fd/*}/fdinfo/${1##*/}" 2>/dev/null || true)
    case $flags in *[12]) return 0;; esac
    return 1
}

# A driver can't be taken from a function that somebody has open: the kernel waits for it to be closed, for NVIDIA's for ever, and closing
# it later does not help then (open-gpu-kernel-modules#1119).
check_closed() { # ADDRESS
    local name found
    local -a names=()
    while IFS= read -r name; do names+=(-o -lname "*/dev/$name"); done < <(files_of "$1" | sort -u)
    while IFS= read -r found; do
        in_use "$1" "$found"
    done < <([ "${#names[@]}" = 0 ] || find /proc/[0-9]*/fd \( "${names[@]:1}" \) -print 2>/dev/null | sort -V)
    names=()
    while IFS= read -r name; do names+=(-o -lname "*/dev/$name"); done < <(files_of "$1" disks | sort -u)
    while IFS= read -r found; do
        if writes "$found"; then in_use "$1" "$found"; fi
    done < <([ "${#names[@]}" = 0 ] || find /proc/[0-9]*/fd \( "${names[@]:1}" \) -print 2>/dev/null | sort -V)
}
in_use() { # ADDRESS /proc/PID/fd/N
    local pid=${2#/proc/} file who unit
    pid=${pid%%/*}
    file=$(readlink "$2" 2>/dev/null) || return 0 # closed meanwhile
    who=$(cat "/proc/$pid/comm" 2>/dev/null) || return 0
    unit=$(unit_of "$pid")
    case $file in
        */vfio/*) stop "$1 is in use: process $pid ($who${unit:+, unit $unit}) has $file open. End that VM first.";;
        *) stop "$1 is in use: process $pid ($who${unit:+, unit $unit}) has $file open. End it first${unit:+: systemctl stop $unit}.";;
    esac
}

# A write that makes a driver let go of its function may never return. It is made beside the script, so that this one can say so; who
# comes later finds it by the lock that it holds for as long as it lasts.
patiently() { # VALUE FILE ADDRESS
    local said='' more='' status=0 answer writer
    say "  $2 <- $1"
    if [ -n "$dry" ]; then return; fi
    exec 8> "$state/waits-$3"
    flock 8
    # shellcheck disable=SC2317 # stop calls explain_kernel: once is enough
    exec {answer}< <(exec 2>&1 3>&- 9>&- < /dev/null; explain_kernel() { :; }; write "$1" "$2" && printf taken)
    writer=$!
    exec 8>&-
    IFS= read -r -d '' -t 5 said <&"$answer" || status=$?
    if [ "$status" -gt 128 ]; then
        say "  … the driver of $3 takes its time: waiting for at most $patience seconds"
        status=0
        IFS= read -r -d '' -t "$patience" more <&"$answer" || status=$?
    fi
    exec {answer}<&-
    said+=$more
    if [ "$status" -gt 128 ]; then still_waits "$3" "process $writer, which writes $1 to $2,"; fi
    case $said in
        *taken) drop "$state/waits-$3";;
        *STOP:\ *) printf %s "${said%STOP: *}" | explain all; said=${said##*STOP: }; stop "${said%$'\n'}";;
        *) printf '%s' "$said" >&2; exit 1;;
    esac
}
still_waits() { # ADDRESS WHO
    stop "$1: $2 has not come back. A driver waits like that for somebody who has the device open, or for a device that hangs; \`dmesg\` and" \
        "/proc/PID/stack of that process tell more. It can't be ended, and closing the device now seldom helps: find who had it open, keep that" \
        "from starting (systemctl disable), and boot the host again. Until then $1 can't be used; everything else can."
}
check_waits() { # ADDRESS: an earlier write to its driver that is still under way
    if [ -n "$dry" ] || [ ! -e "$state/waits-$1" ]; then return; fi
    exec 8< "$state/waits-$1"
    flock -w 5 8 || still_waits "$1" "an earlier write to its driver"
    exec 8<&-
    drop "$state/waits-$1"
}

make_vfs() { # PF COUNT
    local d=$sys/bus/pci/devices/$1 now
    check_waits "$1"
    now=$(value "$d/sriov_numvfs") || stop "$1 can't have virtual functions now (its own driver has to drive it)."
    if [ "$now" -ge "$2" ]; then say "$1: $now VFs are there"; return; fi
    [ "$now" = 0 ] || stop "$1 has $now VFs, and the plan needs $2: growing their number removes those that are there. Take them back (--undo of the script that made them), run this script first, then that one."
    [ "$2" -le "$(value "$d/sriov_totalvfs")" ] || stop "$1 can have $(value "$d/sriov_totalvfs") VFs, and the plan needs $2."
    say "$1: making $2 VFs"
    remember "vfs-$1" "$now $(value "$d/sriov_drivers_autoprobe")"
    put 0 "$d/sriov_drivers_autoprobe"
    patiently "$2" "$d/sriov_numvfs" "$1"
    udevadm settle 2>/dev/null || true
}
undo_vfs() { back "the VFs of $1" vfs_back "$1"; }
vfs_back() { # PF
    local d=$sys/bus/pci/devices/$1 count autoprobe vf
    [ -e "$state/vfs-$1" ] || return 0
    check_waits "$1"
    read -r count autoprobe < "$state/vfs-$1"
    if [ ! -d "$d" ]; then say "$1 is gone, and its VFs with it"; drop "$state/vfs-$1"; return; fi
    for vf in "$d"/virtfn*; do
        [ -e "$vf" ] || continue
        vf=$(link_name "$vf")
        case $(driver_of "$vf") in *vfio*) say "$1: its VFs stay, because $vf is still prepared for a VM"; return;; esac
        check_closed "$vf"
        check_free "$vf" ""
    done
    say "$1: VFs as before"
    if [ "$(value "$d/sriov_numvfs")" != "$count" ]; then patiently "$count" "$d/sriov_numvfs" "$1"; fi
    if [ "$(value "$d/sriov_drivers_autoprobe")" != "$autoprobe" ]; then put "$autoprobe" "$d/sriov_drivers_autoprobe"; fi
    if [ -n "$dry" ]; then return; fi
    [ "$(value "$d/sriov_numvfs") $(value "$d/sriov_drivers_autoprobe")" = "$count $autoprobe" ] || stop "$1 has other VFs than before; \`dmesg\` may say why. $hint"
    drop "$state/vfs-$1"
}

# Variant drivers give themselves away by the modalias vfio_pci:…: a plan made without knowledge of this kernel's modules may have missed one.
note_variant() { # ADDRESS DRIVER
    local found
    found=$(modprobe -R "vfio_$(cat "$sys/bus/pci/devices/$1/modalias")" 2>/dev/null | grep -vx -e vfio_pci -e "$2" | head -n 1) || return 0
    [ -z "$found" ] || say "$1: note that this kernel has $found for it; write driver = \"$found\" in the profile to have that"
}
load() { # MODULE FILE: unless the file says that it is there
    [ -e "$2" ] || run modprobe "$1"
}
bind() { # ADDRESS DRIVER
    local d=$sys/bus/pci/devices/$1 now
    check_waits "$1"
    now=$(driver_of "$1")
    if [ "$now" = "$2" ]; then say "$1: on $2"; return; fi
    say "$1: from ${now:-no driver} to $2"
    [ "$2" != vfio-pci ] || note_variant "$1" "$2"
    load "$2" "$sys/bus/pci/drivers/$2"
    check_closed "$1"
    remember "function-$1" "${now:-none} $2 $(override_of "$1")"
    put "$2" "$d/driver_override"
    [ -z "$now" ] || patiently "$1" "$d/driver/unbind" "$1"
    patiently "$1" "$sys/bus/pci/drivers_probe" "$1"
    if [ -n "$dry" ]; then return; fi
    udevadm settle 2>/dev/null || true
    [ "$(driver_of "$1")" = "$2" ] || stop "$1 could not be bound to $2; \`dmesg\` says why. $hint"
}
undo_bind() { back "the driver of $1" bind_back "$1"; }
bind_back() { # ADDRESS
    local d=$sys/bus/pci/devices/$1 was ours override now
    [ -e "$state/function-$1" ] || return 0
    check_waits "$1"
    read -r was ours override < "$state/function-$1"
    if [ ! -d "$d" ]; then say "$1 is gone: there is nothing to put back"; drop "$state/function-$1"; return; fi
    now=$(driver_of "$1")
    case ${now:-none} in
        "$was" | "$ours" | none) ;;
        *) say "$1: stays on $now, which these scripts did not bind; it was on $was before them"; drop "$state/function-$1"; return;;
    esac
    [ "${now:-none}" = "$was" ] || check_closed "$1"
    say "$1: back to $was"
    # An empty line clears the override.
    put "$override" "$d/driver_override"
    if [ "${now:-none}" != "$was" ]; then
        [ -z "$now" ] || patiently "$1" "$d/driver/unbind" "$1"
        [ "$was" = none ] || patiently "$1" "$sys/bus/pci/drivers_probe" "$1"
    fi
    if [ -n "$dry" ]; then return; fi
    udevadm settle 2>/dev/null || true
    now=$(driver_of "$1")
    [ "${now:-none}" = "$was" ] || stop "$1 is on ${now:-no driver}, and was on $was: load that driver (modprobe $was), then run --undo again."
    [ "$(override_of "$1")" = "$override" ] || stop "the driver_override of $1 is $(override_of "$1"), and was ${override:-empty}. $hint"
    drop "$state/function-$1"
}

check_user() { # USER
    id -u "$1" > /dev/null 2>&1 || stop "there is no user $1 here. Make the account first, or plan with another --user."
}
cdev_of() { # ADDRESS
    local name
    for name in "$sys/bus/pci/devices/$1/vfio-dev"/*; do [ -e "$name" ] && printf '/dev/vfio/devices/%s\n' "$(basename "$name")"; done
    return 0
}
give_function() { # USER ADDRESS IOMMUFD
    local file
    if [ "$3" = yes ]; then file=$(cdev_of "$2"); else file=/dev/vfio/$(link_name "$sys/bus/pci/devices/$2/iommu_group"); fi
    [ -n "$file" ] || { if [ -n "$dry" ]; then return; fi; stop "$2 has no VFIO character device (CONFIG_VFIO_DEVICE_CDEV)."; }
    if [ -z "$dry" ]; then
        [ -e "$file" ] || stop "$file is not there."
        [ "$(stat -c %u "$file")" != "$(id -u "$1")" ] || return 0
        remember "owner-$2" "$file $(stat -c %u "$file")"
    fi
    run chown -h "$1" "$file"
}
undo_give_function() { back "the owner of the device file of $2" function_back "$1" "$2"; }
function_back() { # USER ADDRESS: the file goes with the binding, unless that was there before
    local file owner
    [ -e "$state/owner-$2" ] || return 0
    read -r file owner < "$state/owner-$2"
    if [ -e "$file" ] && [ "$(stat -c %U "$file")" = "$1" ]; then run chown -h "$owner" "$file"; fi
    drop "$state/owner-$2"
}
