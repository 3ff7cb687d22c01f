# ---- what follows is the same in every script of smmu-wizard; the work is listed at the end ----

sys=/sys
state=/run/smmu-wizard/undo

say() { printf '%s\n' "$*"; }
stop() { printf 'STOP: %s\n' "$*" >&2; exit 1; }

# Every change goes through these two, so that --dry-run shows them all and changes nothing.
put() { # VALUE FILE
    say "  $2 <- $1"
    [ -n "$dry" ] || printf '%s\n' "$1" > "$2"
}
run() {
    say "  $*"
    [ -n "$dry" ] || "$@"
}

remember() { # NAME VALUE: what it was before the first run, for --undo
    if [ -n "$dry" ]; then return; fi
    mkdir -p -m 700 "$state"
    [ -e "$state/$1" ] || printf '%s\n' "$2" > "$state/$1"
}
recall() { # NAME: prints it and forgets it; status 1 when nothing was changed
    [ -e "$state/$1" ] || return 1
    cat "$state/$1"
    [ -n "$dry" ] || rm -f "$state/$1"
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

# The host's own uses: a mounted disk, swap, or the interface of the default route.
check_free() { # ADDRESS
    local d=$sys/bus/pci/devices/$1 dev name
    case $(driver_of "$1") in *vfio*) return 0;; esac
    while read -r dev; do
        name=$(cat "$dev")
        if awk -v n="$name" '$3 == n { found = 1 } END { exit !found }' /proc/self/mountinfo; then stop "$1 carries a mounted file system ($name). Unmount it first."; fi
        if [ -n "$(ls -A "$(dirname "$dev")/holders" 2>/dev/null)" ]; then stop "$1 carries a disk that is in use (LVM, RAID or encryption on $name)."; fi
        if awk 'NR > 1 { print $1 }' /proc/swaps | grep -qx "/dev/$(basename "$(dirname "$dev")")"; then stop "$1 carries swap space. Switch it off first."; fi
    done < <(find "$(readlink -f "$d")" -path '*/block/*' -name dev 2>/dev/null)
    for name in "$d"/net/*; do
        [ -e "$name" ] || continue
        name=$(basename "$name")
        if awk -v n="$name" '$1 == n && $2 == "00000000" { found = 1 } END { exit !found }' /proc/net/route; then stop "$1 is $name, which has the default route."; fi
    done
}

make_vfs() { # PF COUNT
    local d=$sys/bus/pci/devices/$1 now
    now=$(cat "$d/sriov_numvfs") || stop "$1 can't have virtual functions now (its own driver has to drive it)."
    if [ "$now" = "$2" ]; then say "$1: $2 VFs are there"; return; fi
    [ "$now" = 0 ] || stop "$1 has $now VFs, and the plan has $2: growing their number would remove those that are there."
    say "$1: making $2 VFs"
    remember "autoprobe-$1" "$(cat "$d/sriov_drivers_autoprobe")"
    remember "numvfs-$1" 0
    put 0 "$d/sriov_drivers_autoprobe"
    put "$2" "$d/sriov_numvfs"
    udevadm settle 2>/dev/null || true
}
undo_vfs() { # PF
    local d=$sys/bus/pci/devices/$1 was
    if was=$(recall "numvfs-$1"); then say "$1: VFs as before"; put "$was" "$d/sriov_numvfs"; fi
    if was=$(recall "autoprobe-$1"); then put "$was" "$d/sriov_drivers_autoprobe"; fi
}

# Variant drivers give themselves away by the modalias vfio_pci:…: a plan made without knowledge of this kernel's modules may have missed one.
note_variant() { # ADDRESS DRIVER
    local found
    found=$(modprobe -R "vfio_$(cat "$sys/bus/pci/devices/$1/modalias")" 2>/dev/null | grep -vx -e vfio_pci -e "$2" | head -n 1) || return 0
    [ -z "$found" ] || say "$1: note that this kernel has $found for it; write driver = \"$found\" in the profile to have that"
}
bind() { # ADDRESS DRIVER
    local d=$sys/bus/pci/devices/$1 now
    now=$(driver_of "$1")
    if [ "$now" = "$2" ]; then say "$1: on $2"; return; fi
    say "$1: from ${now:-no driver} to $2"
    [ "$2" != vfio-pci ] || note_variant "$1" "$2"
    remember "driver-$1" "${now:-none}"
    remember "override-$1" "$(override_of "$1")"
    run modprobe "$2" || stop "the driver $2 can't be loaded."
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
    was=$(recall "driver-$1") || return 0
    override=$(recall "override-$1") || override=
    [ -d "$d" ] || return 0
    say "$1: back to $was"
    # An empty line clears the override. driverctl keeps its own in the same attribute.
    put "$override" "$d/driver_override"
    [ -z "$(driver_of "$1")" ] || put "$1" "$d/driver/unbind"
    [ "$was" = none ] || put "$1" "$sys/bus/pci/drivers_probe"
}

give() { # USER FILE...: the user may open it
    local user=$1; shift
    for file in "$@"; do
        [ -n "$dry" ] || [ -e "$file" ] || stop "$file is not there."
        if command -v setfacl > /dev/null && [ "$file" = /dev/iommu ]; then
            run setfacl -m "u:$user:rw" "$file"
        elif [ -n "$dry" ] || [ "$(stat -c %U "$file")" != "$user" ]; then
            # The functions' own files go with their binding; /dev/iommu stays and goes back.
            [ "$file" != /dev/iommu ] || remember iommu-owner "$(stat -c %U "$file")"
            run chown "$user" "$file"
        fi
    done
}
undo_give() { # USER
    local was
    if was=$(recall iommu-owner); then run chown "$was" /dev/iommu; fi
    if command -v setfacl > /dev/null && [ -e /dev/iommu ]; then run setfacl -x "u:$1" /dev/iommu; fi
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

hugepages() { # NODE|any KIB COUNT
    local d=$sys/kernel/mm/hugepages/hugepages-$2kB free total
    [ "$1" = any ] || d=$sys/devices/system/node/node$1/hugepages/hugepages-$2kB
    [ -d "$d" ] || stop "this kernel has no hugepages of $2 KiB${1:+ on node $1}."
    free=$(cat "$d/free_hugepages") total=$(cat "$d/nr_hugepages")
    if [ "$free" -ge "$3" ]; then say "hugepages of $2 KiB (node $1): $free are free"; return; fi
    say "hugepages of $2 KiB (node $1): $3 are needed, $free are free"
    remember "hugepages-$1-$2" "$total"
    put $((total + $3 - free)) "$d/nr_hugepages"
    [ -n "$dry" ] || [ "$(cat "$d/free_hugepages")" -ge "$3" ] || stop "the kernel found only $(cat "$d/free_hugepages") hugepages; reserve them on its command line."
}
undo_hugepages() { # NODE|any KIB
    local d=$sys/kernel/mm/hugepages/hugepages-$2kB was
    [ "$1" = any ] || d=$sys/devices/system/node/node$1/hugepages/hugepages-$2kB
    if was=$(recall "hugepages-$1-$2"); then put "$was" "$d/nr_hugepages"; fi
}

# iommufd charges pinned memory per user: the limit is the sum over all scripts that have run for that user.
memlock() { # USER KIB SCRIPT
    local d=/var/lib/smmu-wizard/memlock/$1
    if [ -n "$dry" ]; then say "/etc/security/limits.d/smmu-wizard-$1.conf: $2 KiB more for $1"; return; fi
    mkdir -p "$d"
    printf '%s\n' "$2" > "$d/$3"
    write_memlock "$1"
}
write_memlock() { # USER
    local file=/etc/security/limits.d/smmu-wizard-$1.conf kib text
    kib=$({ cat /var/lib/smmu-wizard/memlock/"$1"/* 2>/dev/null || true; } | awk '{ sum += $1 } END { printf "%.0f", sum }')
    if [ "$kib" = 0 ]; then [ ! -e "$file" ] || run rm "$file"; return; fi
    text="# made by preparation scripts of smmu-wizard: guest memory of the VMs of $1 is pinned
$1 hard memlock $kib
$1 soft memlock $kib"
    if [ "$(cat "$file" 2>/dev/null || true)" = "$text" ]; then say "$file: is there"; return; fi
    say "$file: $kib KiB for $1 (from the next login on)"
    [ -n "$dry" ] || printf '%s\n' "$text" > "$file"
}
undo_memlock() { # USER SCRIPT
    [ -e "/var/lib/smmu-wizard/memlock/$1/$2" ] || return 0
    run rm "/var/lib/smmu-wizard/memlock/$1/$2"
    [ -n "$dry" ] || write_memlock "$1"
}

directory() { # PATH USER
    if [ -d "$1" ]; then return; fi
    run mkdir -p -m 755 "$1"
    [ "$2" = root ] || run chown "$2" "$1"
}
vars() { # TEMPLATE FILE USER
    if [ -e "$2" ]; then say "$2: is there"; return; fi
    directory "$(dirname "$2")" root
    run install -m 600 -o "$3" "$1" "$2"
}

install_unit() { # NAME
    local file=/etc/systemd/system/$1.service
    say "$file: runs this script at every boot"
    if [ -n "$dry" ]; then return; fi
    install -D -m 755 "$0" "/usr/local/libexec/$1"
    printf '%s\n' '[Unit]' 'Description=Prepare functions for virtual machines (smmu-wizard)' 'After=systemd-modules-load.service' \
        'Before=libvirtd.service virtqemud.service' '' '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' "ExecStart=/usr/local/libexec/$1" '' \
        '[Install]' 'WantedBy=multi-user.target' > "$file"
    systemctl daemon-reload
    systemctl enable "$1.service"
}
remove_unit() { # NAME
    if [ -e "/etc/systemd/system/$1.service" ]; then
        run systemctl disable "$1.service"
        run rm -f "/etc/systemd/system/$1.service" "/usr/local/libexec/$1"
        run systemctl daemon-reload
    fi
}

action=do dry=
for word in "$@"; do case $word in
    --undo) action=undo;;
    --dry-run) dry=yes;;
    --install-unit) action=install;;
    --remove-unit) action=remove;;
    *) printf 'usage: %s [--dry-run] [--undo | --install-unit | --remove-unit]\n' "$0" >&2; exit 2;;
esac; done
[ "$(id -u)" = 0 ] || stop "this needs root: it binds drivers, and gives a user devices and limits."

