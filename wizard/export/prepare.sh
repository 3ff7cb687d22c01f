# ---- what follows is the same in every script of smmu-wizard; the work is listed at the end ----

sys=/sys
state=/run/smmu-wizard/undo

say() { printf '%s\n' "$*"; }
stop() { printf 'STOP: %s\n' "$*" >&2; exit 1; }

# Every change goes through these two, so that --dry-run shows them all and changes nothing.
put() { # VALUE FILE
    say "  $2 <- $1"
    [ -n "$dry" ] || printf '%s\n' "$1" > "$2" || stop "the kernel did not take $1 for $2; \`dmesg\` may say why. --undo takes back what was done."
}
run() {
    say "  $*"
    [ -n "$dry" ] || "$@" || stop "$1 failed. --undo takes back what was done."
}

remember() { # NAME VALUE: what it was before the first run, for --undo
    if [ -n "$dry" ]; then return; fi
    mkdir -p "$state"
    [ -e "$state/$1" ] || printf '%s\n' "$2" > "$state/$1"
}
recall() { # NAME: prints it and forgets it; status 1 when nothing was changed
    [ -e "$state/$1" ] || return 1
    cat "$state/$1"
    [ -n "$dry" ] || rm -f "$state/$1"
}

# What several scripts ask for together (hugepages, a user's files, locked memory) is written down for each of them: a second run counts
# nothing twice, and an undo takes away its own share only.
claim() { # DIRECTORY SCRIPT VALUE
    if [ -n "$dry" ]; then return; fi
    mkdir -p "$1"
    printf '%s\n' "$3" > "$1/$2"
}
unclaim() { # DIRECTORY SCRIPT; status 1 when there is none
    [ -e "$1/$2" ] || return 1
    [ -n "$dry" ] || rm -f "$1/$2"
}
others() { # FILE DIRECTORY...: the sum of all claims but that one
    local but=$1; shift
    { find "$@" -type f ! -path "$but" -exec cat {} + 2>/dev/null || true; } | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

link_name() { [ -L "$1" ] && basename "$(readlink -f "$1")"; return 0; }
driver_of() { link_name "$sys/bus/pci/devices/$1/driver"; }
override_of() { local o; o=$(cat "$sys/bus/pci/devices/$1/driver_override" 2>/dev/null || true); [ "$o" = "(null)" ] || printf %s "$o"; }

# The pseudonym that a redacted snapshot has in place of a value: HMAC-SHA256 (RFC 2104) under the machine-id, in hexadecimal.
pseudonym() {
    [ -r /etc/machine-id ] || return 0
    local id; id=$(cat /etc/machine-id)
    {
        printf %s "$id" | tr 0123456789abcdef 'lmnohijkde=>?89:'
        printf '%32s' '' | tr ' ' '\134'
        {
            printf %s "$id" | tr 0123456789abcdef '\006\007\004\005\002\003\000\001\016\017WTURSP'
            printf '%32s' '' | tr ' ' 6
            printf %s "$1"
        } | sha256sum | cut -c 1-64 | tr a-f A-F | basenc --decode --base16
    } | sha256sum | cut -c 1-64
}

check_host() { # PSEUDONYM
    [ "host-$(pseudonym 'smmu-wizard host' | cut -c 1-16)" = "$1" ] || stop "this is not the host that the plan was made for ($1). Record and plan on this one."
}

check_same() { # WHAT FOUND PLANNED ADDRESS
    [ "$2" = "$3" ] || stop "$4: $1 is ${2:-not there}, and $3 in the plan. Record the host and plan again."
}

# A function is found again by its path and has to be the same device behind the same SMMU: addresses move when cards or firmware change.
check() { # ADDRESS VENDOR:DEVICE SERIAL SMMU GROUP-MEMBERS
    local d=$sys/bus/pci/devices/$1 found
    [ -d "$d" ] || stop "$1 is not there. Record the host and plan again."
    check_same "the device" "$(cut -c 3- "$d/vendor"):$(cut -c 3- "$d/device")" "$2" "$1"
    if [ -n "$3" ] && [ -r "$d/serial_number" ]; then
        found=$(cat "$d/serial_number")
        [ "$found" = "$3" ] || [ "$(pseudonym "$found" | cut -c 1-16 | sed 's/../&-/g; s/-$//')" = "$3" ] ||
            stop "$1: the serial number is another one than in the plan. Record the host and plan again."
    fi
    check_same "the SMMU" "$(link_name "$d/iommu")" "$4" "$1"
    [ -e "$d/iommu_group" ] || stop "$1 has no IOMMU group."
    found=$(cd "$d/iommu_group/devices" && printf '%s\n' * | sort | tr '\n' ' ')
    check_same "its IOMMU group" "${found% }" "$5" "$1"
}

# The host's own uses: a mounted disk, swap, or an interface that a default route goes through. Disks are looked for in the class, because
# an NVMe namespace has no block/ above it, and with multipath hangs below its subsystem and not below the function.
check_free() { # ADDRESS
    local real block name
    case $(driver_of "$1") in *vfio*) return 0;; esac
    real=$(readlink -f "$sys/bus/pci/devices/$1")
    for block in "$sys/class/block"/*; do
        case $(readlink -f "$block") in "$real"/*) check_disk "$1" "$block";; esac
    done
    for name in "$real"/nvme/nvme*; do
        for block in "$sys/class/nvme-subsystem"/*/nvme*n*; do
            [ ! -e "$block/dev" ] || [ ! -e "${block%/*}/${name##*/}" ] || check_disk "$1" "$block"
        done
    done
    for name in "$sys/class/net"/*; do
        case $(readlink -f "$name") in "$real"/*) check_interface "$1" "$(basename "$name")";; esac
    done
}
check_disk() { # ADDRESS BLOCK: with its partitions
    local part name source
    for part in "$2" "$2"/*/partition; do
        part=${part%/partition}
        [ -e "$part/dev" ] || continue
        name=$(basename "$part")
        # Field 3 is the device number; btrfs has one of its own there, and names the device behind the dash.
        while read -r source; do
            [ "$(readlink -f "$source")" != "/dev/$name" ] || stop "$1 carries a mounted file system ($name). Unmount it first."
        done < <(awk -v n="$(cat "$part/dev")" -v name="/dev/$name" '$3 == n { print name; next }
            { for (i = 7; i < NF; i++) if ($i == "-") { if ($(i + 2) ~ "^/dev/") print $(i + 2); next } }' /proc/self/mountinfo)
        if compgen -G "$sys/fs/btrfs/*/devices/$name" > /dev/null; then stop "$1 carries a part of a mounted btrfs ($name). Unmount it first."; fi
        if [ -n "$(ls -A "$part/holders" 2>/dev/null)" ]; then stop "$1 carries a disk that is in use (LVM, RAID or encryption on $name)."; fi
        if awk 'NR > 1 { print $1 }' /proc/swaps | grep -qx "/dev/$name"; then stop "$1 carries swap space. Switch it off first."; fi
        if command -v zpool > /dev/null && zpool list -vHPL 2>/dev/null | awk '{ print $1 }' | grep -qx "/dev/$name"; then
            stop "$1 carries a part of an imported ZFS pool ($name). Export it first."
        fi
    done
}
check_interface() { # ADDRESS INTERFACE: and the bonds, bridges and VLANs above it
    local upper
    if awk -v n="$2" '$1 == n && $2 == "00000000" && $8 == "00000000" { found = 1 } END { exit !found }' /proc/net/route ||
        awk -v n="$2" '$10 == n && $1 ~ /^0+$/ && $2 == "00" && n != "lo" { found = 1 } END { exit !found }' /proc/net/ipv6_route 2>/dev/null; then
        stop "$1 carries the default route (through $2). Give it another way first."
    fi
    for upper in "$sys/class/net/$2"/upper_*; do [ ! -e "$upper" ] || check_interface "$1" "$(basename "$(readlink -f "$upper")")"; done
}

# A driver can't be taken from a function that a VM has open: the kernel waits for it to be closed.
check_closed() { # ADDRESS
    local file found
    case $(driver_of "$1") in *vfio*) ;; *) return 0;; esac
    for file in $(cdev_of "$1") "/dev/vfio/$(link_name "$sys/bus/pci/devices/$1/iommu_group")"; do
        found=$(find /proc/[0-9]*/fd -lname "$file" -print -quit 2>/dev/null) || true
        if [ -n "$found" ]; then
            found=${found#/proc/}
            stop "$1 is in use: process ${found%%/*} has $file open. End that VM first."
        fi
    done
}

make_vfs() { # PF COUNT
    local d=$sys/bus/pci/devices/$1 now
    now=$(cat "$d/sriov_numvfs") || stop "$1 can't have virtual functions now (its own driver has to drive it)."
    if [ "$now" -ge "$2" ]; then say "$1: $now VFs are there"; return; fi
    [ "$now" = 0 ] || stop "$1 has $now VFs, and the plan needs $2: growing their number removes those that are there. Take them back (--undo of the script that made them), run this script first, then that one."
    [ "$2" -le "$(cat "$d/sriov_totalvfs")" ] || stop "$1 can have $(cat "$d/sriov_totalvfs") VFs, and the plan needs $2."
    say "$1: making $2 VFs"
    remember "autoprobe-$1" "$(cat "$d/sriov_drivers_autoprobe")"
    remember "numvfs-$1" 0
    put 0 "$d/sriov_drivers_autoprobe"
    put "$2" "$d/sriov_numvfs"
    udevadm settle 2>/dev/null || true
}
undo_vfs() { # PF
    local d=$sys/bus/pci/devices/$1 was vf
    for vf in "$d"/virtfn*; do
        case $(driver_of "$(link_name "$vf")") in *vfio*) say "$1: its VFs stay, because $(link_name "$vf") is still prepared for a VM"; return;; esac
    done
    if was=$(recall "numvfs-$1"); then say "$1: VFs as before"; put "$was" "$d/sriov_numvfs"; fi
    if was=$(recall "autoprobe-$1"); then put "$was" "$d/sriov_drivers_autoprobe"; fi
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
    now=$(driver_of "$1")
    if [ "$now" = "$2" ]; then say "$1: on $2"; return; fi
    say "$1: from ${now:-no driver} to $2"
    [ "$2" != vfio-pci ] || note_variant "$1" "$2"
    remember "driver-$1" "${now:-none}"
    remember "override-$1" "$(override_of "$1")"
    load "$2" "$sys/bus/pci/drivers/$2"
    check_closed "$1"
    if command -v driverctl > /dev/null; then
        run driverctl --nosave set-override "$1" "$2"
    else
        put "$2" "$d/driver_override"
        [ -z "$now" ] || put "$1" "$d/driver/unbind"
        put "$1" "$sys/bus/pci/drivers_probe"
    fi
    if [ -n "$dry" ]; then return; fi
    udevadm settle 2>/dev/null || true
    [ "$(driver_of "$1")" = "$2" ] || stop "$1 could not be bound to $2; \`dmesg\` says why. --undo takes back what was done."
}
undo_bind() { # ADDRESS
    local d=$sys/bus/pci/devices/$1 was override
    [ ! -e "$state/driver-$1" ] || check_closed "$1"
    was=$(recall "driver-$1") || return 0
    override=$(recall "override-$1") || override=
    [ -d "$d" ] || return 0
    say "$1: back to $was"
    # An empty line clears the override. driverctl keeps its own in the same attribute.
    put "$override" "$d/driver_override"
    [ -z "$(driver_of "$1")" ] || put "$1" "$d/driver/unbind"
    if [ "$was" = none ]; then return; fi
    put "$1" "$sys/bus/pci/drivers_probe"
    [ -n "$dry" ] || [ "$(driver_of "$1")" = "$was" ] || say "$1: note that it is now on $(driver_of "$1"), and was on $was"
}

check_user() { # USER
    id -u "$1" > /dev/null 2>&1 || stop "there is no user $1 here. Make the account first, or plan with another --user."
}
give() { # USER FILE: the user may open it. The functions' own files go with their binding.
    [ -n "$dry" ] || [ -e "$2" ] || stop "$2 is not there."
    [ -n "$dry" ] || [ "$(stat -c %U "$2")" != "$1" ] || return 0
    run chown "$1" "$2"
}
give_iommu() { # USER SCRIPT: /dev/iommu stays when the VMs have gone, and is given back
    local owner
    [ -n "$dry" ] || [ -e /dev/iommu ] || stop "/dev/iommu is not there (CONFIG_IOMMUFD)."
    claim "$state/iommu/$1" "$2" 1
    if command -v setfacl > /dev/null; then
        getfacl -p /dev/iommu 2>/dev/null | grep -qx "user:$1:rw-" || run setfacl -m "u:$1:rw" /dev/iommu
        return
    fi
    owner=$(stat -c %U /dev/iommu 2>/dev/null || true)
    if [ "$owner" = "$1" ]; then return; fi
    [ "${owner:-root}" = root ] || stop "/dev/iommu belongs to $owner already, and can't be given to $1 too without setfacl. Install acl."
    run chown "$1" /dev/iommu
}
undo_give_iommu() { # USER SCRIPT
    unclaim "$state/iommu/$1" "$2" || return 0
    if [ "$(others "" "$state/iommu/$1")" != 0 ]; then say "/dev/iommu: $1 keeps it for another VM"; return; fi
    if command -v setfacl > /dev/null; then run setfacl -x "u:$1" /dev/iommu; else run chown root /dev/iommu; fi
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
    give "$1" "$file"
}

pages() { # NODE|any KIB: where the kernel keeps them
    if [ "$1" = any ]; then printf %s "$sys/kernel/mm/hugepages/hugepages-$2kB"; else printf %s "$sys/devices/system/node/node$1/hugepages/hugepages-$2kB"; fi
}
pages_of_others() { # NODE|any KIB SCRIPT: those of any node and those of one come from the same pools
    local but=$state/pages/$1-$2/$3
    if [ "$1" = any ]; then others "$but" "$state/pages"/*-"$2"; else others "$but" "$state/pages/$1-$2"; fi
}
hugepages() { # NODE|any KIB COUNT SCRIPT
    local d total free used want
    d=$(pages "$1" "$2")
    [ -d "$d" ] || stop "this kernel has no hugepages of $2 KiB (node $1)."
    total=$(cat "$d/nr_hugepages") free=$(cat "$d/free_hugepages")
    # A running VM of these scripts uses some of them: what others use is what was in use before the first script.
    remember "pages-$1-$2" "$total $((total - free))"
    used=$((total - free))
    [ ! -e "$state/pages-$1-$2" ] || used=$(awk '{ print $2 }' "$state/pages-$1-$2")
    want=$((used + $3 + $(pages_of_others "$1" "$2" "$4")))
    claim "$state/pages/$1-$2" "$4" "$3"
    if [ "$total" -ge "$want" ]; then say "hugepages of $2 KiB (node $1): $total are there, $want are needed"; return; fi
    say "hugepages of $2 KiB (node $1): $want are needed with those in use, $total are there"
    put "$want" "$d/nr_hugepages"
    [ -n "$dry" ] || [ "$(cat "$d/nr_hugepages")" -ge "$want" ] ||
        stop "the kernel found only $(cat "$d/nr_hugepages") hugepages of $2 KiB; reserve $want on its command line. --undo takes back what was done."
}
undo_hugepages() { # NODE|any KIB SCRIPT
    local d was used want
    d=$(pages "$1" "$2")
    unclaim "$state/pages/$1-$2" "$3" || return 0
    read -r was used < "$state/pages-$1-$2"
    want=$((used + $(pages_of_others "$1" "$2" "$3")))
    [ "$want" -gt "$was" ] || want=$was
    if [ "$(cat "$d/nr_hugepages")" -gt "$want" ]; then put "$want" "$d/nr_hugepages"; fi
    [ "$want" != "$was" ] || [ -n "$dry" ] || rm -f "$state/pages-$1-$2"
}

# iommufd charges pinned memory per user: the limit is the sum over all scripts that have run for that user.
locked=/var/lib/smmu-wizard/memlock
memlock() { # USER KIB SCRIPT
    if [ -n "$dry" ]; then say "/etc/security/limits.d/smmu-wizard-$1.conf: $2 KiB more for $1"; return; fi
    claim "$locked/$1" "$3" "$2"
    write_memlock "$1"
}
write_memlock() { # USER
    local file=/etc/security/limits.d/smmu-wizard-$1.conf kib text
    kib=$(others "" "$locked/$1")
    if [ "$kib" = 0 ]; then [ ! -e "$file" ] || run rm "$file"; return; fi
    text="# made by preparation scripts of smmu-wizard: guest memory of the VMs of $1 is pinned
$1 hard memlock $kib
$1 soft memlock $kib"
    if [ "$(cat "$file" 2>/dev/null || true)" = "$text" ]; then say "$file: is there"; return; fi
    say "$file: $kib KiB for $1 (from the next login on)"
    mkdir -p "$(dirname "$file")"
    printf '%s\n' "$text" > "$file" || stop "$file can't be written."
}
undo_memlock() { # USER SCRIPT
    unclaim "$locked/$1" "$2" || return 0
    if [ -n "$dry" ]; then say "/etc/security/limits.d/smmu-wizard-$1.conf: less for $1"; else write_memlock "$1"; fi
}

directory() { # PATH USER: one that is there already keeps its owner, unless it is of these scripts
    if [ -d "$1" ]; then
        case $1 in /run/smmu-wizard/*) [ "$(stat -c %U "$1")" = "$2" ] || run chown "$2" "$1";; esac
        return
    fi
    run mkdir -p -m 755 "$1"
    [ "$2" = root ] || run chown "$2" "$1"
}
vars() { # TEMPLATE FILE USER
    if [ -e "$2" ]; then
        say "$2: is there"
        case $2 in /var/lib/smmu-wizard/*) [ "$(stat -c %U "$2")" = "$3" ] || run chown "$3" "$2";; esac
        return
    fi
    directory "$(dirname "$2")" root
    run install -m 600 -o "$3" "$1" "$2"
}

install_unit() { # NAME
    local file=/etc/systemd/system/$1.service
    # A script that came through a pipe has no file that could be kept.
    grep -qs '^# ---- what follows is the same in every script of smmu-wizard' "$0" || stop "the unit needs this script as a file: save it and run it by its name."
    say "$file: runs this script at every boot"
    if [ -n "$dry" ]; then return; fi
    install -D -m 755 "$0" "/usr/local/libexec/$1"
    printf '%s\n' '[Unit]' 'Description=Prepare functions for virtual machines (smmu-wizard)' 'After=systemd-modules-load.service systemd-udev-trigger.service' \
        'Before=libvirtd.service virtqemud.service' '' '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' "ExecStart=/usr/local/libexec/$1" '' \
        '[Install]' 'WantedBy=multi-user.target' > "$file"
    reload_units
    systemctl enable "$1.service" || stop "the unit can't be enabled."
}
reload_units() { [ ! -d /run/systemd/system ] || run systemctl daemon-reload; }
remove_unit() { # NAME
    if [ -e "/etc/systemd/system/$1.service" ]; then
        run systemctl disable "$1.service"
        run rm -f "/etc/systemd/system/$1.service" "/usr/local/libexec/$1"
        reload_units
    fi
}

umask 022
action='do' dry='' plug=''
while [ $# -gt 0 ]; do case $1 in
    --undo) action=undo;;
    --dry-run) dry=yes;;
    --install-unit) action=install;;
    --remove-unit) action=remove;;
    --plug) action=plug plug=${2-}; [ $# -lt 2 ] || shift;;
    *) printf 'usage: %s [--dry-run] [--undo | --install-unit | --remove-unit | --plug FUNCTION]\n' "$0" >&2; exit 2;;
esac; shift; done
[ "$(id -u)" = 0 ] || stop "this needs root: it binds drivers, and gives a user devices and limits."

