# ---- who has a function: the host, other VMs ----

# A mounted disk, swap, an interface with an address, a route or something above it, a target that exports a disk, parts of a GPU. Disks are
# looked for in the class, because an NVMe namespace has no block/ above it, and with multipath hangs below its subsystem and not below the function.
check_free() { # ADDRESS VM
    local real block name
    check_display "$1"
    check_pool "$1"
    real=$(readlink -f "$sys/bus/pci/devices/$1")
    case $(driver_of "$1") in *vfio*) check_owner "$1" "$2"; return 0;; esac
    check_parts "$1" "$real"
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
# A framebuffer of the firmware holds a BAR of the function that shows it: that one is above it, or is the one with boot_vga.
check_display() { # ADDRESS
    local real one
    real=$(readlink -f "$sys/bus/pci/devices/$1")
    for one in "$sys/bus/platform/devices"/*framebuffer.*; do
        if [ ! -e "$one/driver" ]; then continue; fi
        case $(readlink -f "$one") in
            "$real"/*) ;;
            */0000:*/* | */pci*/*) continue;;
            *) [ "$(cat "$real/boot_vga" 2>/dev/null || true)" = 1 ] || continue;;
        esac
        stop "$1 shows the firmware's console (${one##*/} on $(link_name "$one/driver")), which holds a BAR of it. Boot with initcall_blacklist=sysfb_init, or free it: echo ${one##*/} > $sys/bus/platform/drivers/$(link_name "$one/driver")/unbind"
    done
}
# On VFIO already: whoever has it open keeps it, unless it is this very VM, which runs (a script may be run again at any time).
check_owner() { # ADDRESS VM
    local name found named
    local -a names=()
    while IFS= read -r name; do names+=(-o -lname "*/dev/$name"); done < <(files_of "$1" | grep '^vfio/' | sort -u)
    [ "${#names[@]}" != 0 ] || return 0
    while IFS= read -r found; do
        named=$(tr '\0' '\n' < "${found%/fd/*}/cmdline" 2>/dev/null | grep -A 1 -x -e -name | tail -n 1 || true)
        if [ -n "$named" ]; then case $named in "guest=$2" | "guest=$2,"* | "$2" | "$2,"*) continue;; esac; fi
        in_use "$1" "$found"
    done < <(find /proc/[0-9]*/fd \( "${names[@]:1}" \) -print 2>/dev/null | sort -V)
}
# libvirt gives the VFs of an interface to domains that ask for its network.
check_pool() { # ADDRESS
    local one file
    for one in "$sys/bus/pci/devices/$1"/net/* "$sys/bus/pci/devices/$1"/physfn/net/*; do
        for file in /etc/libvirt/qemu/networks/*.xml; do
            if [ -e "$one" ] && [ -e "$file" ] && grep -q "<pf dev=['\"]${one##*/}['\"]" "$file"; then
                stop "$1 belongs to a pool of libvirt ($(basename "$file" .xml), of ${one##*/}). Take it out of that network (virsh net-edit), or end the network."
            fi
        done
    done
}
# Mediated devices and vGPUs of it, sessions of an iSCSI card, users of RDMA within the kernel (those of processes have a file open).
check_parts() { # ADDRESS PATH
    local one user
    for one in "$sys/bus/mdev/devices"/*; do
        case $(readlink -f "$one") in "$2"/*) stop "$1 has a mediated device (${one##*/}). End the VM that has it, then: echo 1 > $one/remove";; esac
    done
    for one in "$2"/virtfn*/nvidia/current_vgpu_type; do
        if [ -e "$one" ] && [ "$(value "$one")" != 0 ]; then stop "$1 has a vGPU ($(basename "$(readlink -f "${one%/nvidia/*}")")). End the VM that has it, then: echo 0 > $one"; fi
    done
    for one in "$sys/class/iscsi_session"/*; do
        case $(readlink -f "$one") in "$2"/*) stop "$1 carries ${one##*/} of iSCSI. Log out first (iscsiadm --mode session --logout).";; esac
    done
    for one in "$2"/infiniband/*; do
        if [ ! -e "$one" ] || ! command -v rdma > /dev/null; then continue; fi
        user=$(rdma resource show cm_id 2>/dev/null | sed -n "s|^link ${one##*/}/.* comm \\[\\([^]]*\\)\\].*|\\1|p" | grep -v -x -e ib_core -e ib_cm -e ib_ipoib -e rdma_cm | head -n 1 || true)
        [ -z "$user" ] || stop "$1 is in use for RDMA by the kernel ($user on ${one##*/}). Unmount or log out first."
    done
}
check_target() { # ADDRESS DISK: opened within the kernel, which shows nowhere else
    local one path
    for one in "$sys/kernel/config/nvmet/subsystems"/*/namespaces/*/device_path "$sys/kernel/config/target/core"/*/*/udev_path; do
        path=$(cat "$one" 2>/dev/null) || continue
        if [ -n "$path" ] && [ "$(readlink -f "$path")" = "/dev/$2" ] && [ "$(cat "${one%/*}/enable" 2>/dev/null)" = 1 ]; then
            stop "$1 carries a disk that a target exports to others ($2, by ${one%/*}). Take it out of the target first."
        fi
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
        check_target "$1" "$name"
        if awk 'NR > 1 { print $1 }' /proc/swaps | grep -qx "/dev/$name"; then stop "$1 carries swap space. Switch it off first."; fi
        if command -v zpool > /dev/null && zpool list -vHPL 2>/dev/null | awk '{ print $1 }' | grep -qx "/dev/$name"; then
            stop "$1 carries a part of an imported ZFS pool ($name). Export it first."
        fi
    done
}
check_interface() { # ADDRESS INTERFACE: routes and addresses, also of what stands above it; then that anything does
    local upper
    if awk -v n="$2" '$1 == n && $2 == "00000000" && $8 == "00000000" { found = 1 } END { exit !found }' /proc/net/route ||
        awk -v n="$2" '$10 == n && $1 ~ /^0+$/ && $2 == "00" && n != "lo" { found = 1 } END { exit !found }' /proc/net/ipv6_route 2>/dev/null; then
        stop "$1 carries the default route (through $2). Give it another way first."
    fi
    if awk -v n="$2" '$1 == n && $2 != "00000000" && $3 == "00000000" { found = 1 } END { exit !found }' /proc/net/route ||
        awk -v n="$2" '$6 == n && $4 != "10" && $4 != "20" { found = 1 } END { exit !found }' /proc/net/if_inet6 2>/dev/null; then
        stop "$1 carries an address of the host (on $2). Take it away first (ip address flush dev $2)."
    fi
    for upper in "$sys/class/net/$2"/upper_*; do
        if [ ! -e "$upper" ]; then continue; fi
        check_interface "$1" "$(basename "$(readlink -f "$upper")")"
        stop "$1 carries ${upper##*/upper_}, which stands on $2 (a bond, bridge, VLAN or the like). Take it off first (ip link set $2 nomaster, ip link delete ${upper##*/upper_})."
    done
}
