# ---- what follows is the same in every script of smmu-wizard; the work is listed at the end ----

sys=/sys
# What was there before stands here, in directories that only root can enter and no VM's name leads to.
state=/run/smmu-wizard-state
kept=/var/lib/smmu-wizard-state # of what lasts over a reboot
patience=60                     # seconds that a driver has to let go of its function
hint='--undo takes back what was done.'

say() { printf '%s\n' "$*"; }
stop() { explain_kernel; printf 'STOP: %s\n' "$*" >&2; exit 1; }

# What was said when a step failed, with what it means and what to do beneath it.
explain() { # [all]: of standard input the lines that are known, with `all` the others too
    local line told
    while IFS= read -r line || [ -n "$line" ]; do
        told=$(meaning "$line")
        if [ -n "$told" ]; then printf '%s\n%s\n' "$line" "$told"; elif [ -n "${1-}" ]; then printf '%s\n' "$line"; fi
    done >&2
}
# The kernel's are the lines of its log that came since the script began: behind the last one that was there then.
mark_kernel() { last=$(dmesg 2> /dev/null | tail -n 1) || true; }
explain_kernel() {
    explain < <(dmesg 2> /dev/null | LAST=$last awk '$0 == ENVIRON["LAST"] { from = NR } { line[NR] = $0 } END { while (from++ < NR) print line[from] }' |
        tail -n 100)
    mark_kernel
}
mark_kernel

# Every change goes through put, patiently and run, so that --dry-run shows them all and changes nothing.
write() { # VALUE FILE
    printf '%s\n' "$1" > "$2" || stop "the kernel did not take $1 for $2; \`dmesg\` may say why. $hint"
}
put() { # VALUE FILE
    say "  $2 <- $1"
    [ -n "$dry" ] || write "$1" "$2"
}
run() {
    local words
    say "  $*"
    if [ -n "$dry" ]; then return; fi
    if { words=$("$@" 2>&1 1>&4 4>&-); } 4>&1; then
        [ -z "$words" ] || printf '%s\n' "$words" >&2
    else
        [ -z "$words" ] || printf '%s\n' "$words" | explain all
        stop "$1 failed. $hint"
    fi
}

# What it was before the first run is in a file each, from before the change until it has been put back: a run that was killed anywhere
# between, and an undo that failed, can be run again.
keep() { # FILE TEXT: whole or not at all
    if [ -n "$dry" ]; then return; fi
    if ! { mkdir -p "${1%/*}" && printf '%s\n' "$2" > "$1.new" && mv -f "$1.new" "$1"; }; then stop "$1 can't be written. $hint"; fi
}
remember() { # NAME VALUE: the first one counts
    [ -e "$state/$1" ] || keep "$state/$1" "$2"
}
drop() { # FILE...: what was put back is forgotten
    [ -n "$dry" ] || rm -f "$@" || stop "$1 can't be removed. $hint"
}

# What several scripts ask for together (hugepages, a user's files, locked memory) is written down for each of them: a second run counts
# nothing twice, and an undo takes away its own share only.
others() { # FILE DIRECTORY...: the sum of all claims but that one
    local but=$1; shift
    { find "$@" -type f ! -path "$but" -exec cat {} + 2>/dev/null || true; } | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

# One script at a time. The lock is on the directory itself: the last undo removes it, so whoever waited looks again whether it is still the one.
take_lock() {
    if [ -n "$dry" ]; then return; fi
    command -v flock > /dev/null || stop "this needs flock (of util-linux), so that two scripts don't work at the same time."
    local tries=0
    while tries=$((tries + 1)); [ "$tries" -lt 100 ]; do
        mkdir -m 700 "$state" 2> /dev/null || true
        { exec 9< "$state"; } 2> /dev/null || continue
        if ! flock -n 9; then
            say "waiting for another preparation script to end"
            flock -w 600 9 || stop "another preparation script has been at work for ten minutes; \`fuser $state\` names it."
        fi
        [ "$(stat -c %d:%i "$state" 2> /dev/null || true)" != "$(stat -L -c %d:%i /proc/self/fd/9)" ] || break
    done
    room "$state" 700 # which refuses a link
    [ "$tries" -lt 100 ] || stop "$state can't be locked."
    trap 'find "$state" "$kept" -depth -type d -empty -delete 2> /dev/null' EXIT
    room "$kept" 700
    # Of runs that were killed.
    find "$state" "$kept" /var/lib/smmu-wizard /etc/systemd/system/smmu-wizard-* /usr/local/libexec/smmu-wizard-* \
        /etc/security/limits.d/smmu-wizard-* -name '*.new' -delete 2>/dev/null || true
}

# Steps of an undo: what fails is said at the end, and the others go on.
left=()
reasons=''
back() { # WHAT COMMAND...
    local what=$1 said; shift
    if { said=$("$@" 2>&1 1>&3 3>&-); } 3>&1; then
        [ -z "$said" ] || printf '%s\n' "$said" >&2
    else
        left+=("$what")
        mark_kernel # what it said meanwhile is told
        [ "$said" = "${said%STOP: *}" ] || printf %s "${said%STOP: *}" >&2
        reasons+="${said##*STOP: } "
    fi
}
end_undo() {
    local file path
    if [ -z "$dry" ]; then
        # Directories that these scripts made go when nothing is in them; the last undo forgets those that stay.
        while read -r _ file; do # the longest path first, so that one within another goes before it
            path=$(cat "$file")
            if [ -d "$path" ] && [ -z "$(ls -A "$path")" ]; then back "$path" run rmdir "$path"; fi
            if [ ! -d "$path" ]; then drop "$file"; fi
        done < <(wc -c "$state"/made-* 2>/dev/null | grep made- | sort -rn)
        if [ "${#left[@]}" = 0 ] && [ -z "$(find "$state" "$kept" -type f ! -name 'made-*' -print -quit)" ]; then drop "$state"/made-*; fi
    fi
    [ "${#left[@]}" = 0 ] || stop "${reasons}Not put back: $(printf '%s, ' "${left[@]}")and what was there before is still known: run --undo again when that is mended."
    say "undone; firmware variables and disks stay where they are, loaded modules stay loaded"
}

link_name() { if [ -L "$1" ]; then basename "$(readlink -f "$1")"; fi; }
driver_of() { link_name "$sys/bus/pci/devices/$1/driver"; }
value() { head -c 4096 "$1" | tr -d '\0'; } # of an attribute of sysfs: a page at most
override_of() { local o; o=$(value "$sys/bus/pci/devices/$1/driver_override" 2>/dev/null || true); [ "$o" = "(null)" ] || printf %s "$o"; }

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
case $action in undo | remove) hint='';; esac
take_lock

