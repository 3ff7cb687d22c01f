# ---- what several scripts share: /dev/iommu, hugepages, locked memory ----

acl() { getfacl -p -c -E /dev/iommu 2>/dev/null; }
acl_of() { # USER: the rights of its own entry, and what the mask leaves of them
    acl | awk -F: -v user="$1" '$1 == "user" && $2 == user { own = $3 } $1 == "mask" { mask = $3 } END { if (own != "") print own, (mask == "" ? own : mask) }'
}
give_iommu() { # USER SCRIPT: /dev/iommu stays when the VMs have gone, and is given back
    local owner rights
    if [ -n "$dry" ]; then say "/dev/iommu: open to $1"; return; fi
    [ -e /dev/iommu ] || stop "/dev/iommu is not there (CONFIG_IOMMUFD)."
    owner=$(stat -c %u /dev/iommu)
    if command -v setfacl > /dev/null; then
        rights=$(acl_of "$1")
        case $rights in 'rw'?' rw'?) rights=yes;; *) [ "$owner" != "$(id -u "$1")" ] || rights=yes;; esac
        if [ "$rights" = yes ]; then
            # The administrator's own, or of an earlier script: then this one wants to keep it too.
            [ ! -e "$state/iommu/$1.before" ] || keep "$state/iommu/$1/$2" 1
            return
        fi
        iommu_users > /dev/null || drop "$state/iommu.acl" # of a run that was killed before it changed anything
        remember "iommu.acl" "$(acl)"
        remember "iommu/$1.before" "acl ${rights%% *}"
        keep "$state/iommu/$1/$2" 1
        run setfacl -m "u:$1:rw" /dev/iommu
        return
    fi
    if [ "$owner" = "$(id -u "$1")" ]; then
        [ ! -e "$state/iommu/$1.before" ] || keep "$state/iommu/$1/$2" 1
        return
    fi
    [ "$owner" = 0 ] || stop "/dev/iommu belongs to $(stat -c %U /dev/iommu) already, and can't be given to $1 too without setfacl. Install acl."
    remember "iommu/$1.before" "owner $owner"
    keep "$state/iommu/$1/$2" 1
    run chown -h "$1" /dev/iommu
}
iommu_users() { compgen -G "$state/iommu/*.before"; }
undo_give_iommu() { back "the access of $1 to /dev/iommu" iommu_back "$1" "$2"; }
iommu_back() { # USER SCRIPT
    local how was before
    if [ ! -e "$state/iommu/$1.before" ]; then
        iommu_users > /dev/null || drop "$state/iommu.acl"
        return
    fi
    if [ "$(others "$state/iommu/$1/$2" "$state/iommu/$1")" != 0 ]; then
        [ ! -e "$state/iommu/$1/$2" ] || say "/dev/iommu: $1 keeps it for another VM"
        drop "$state/iommu/$1/$2"
        return
    fi
    read -r how was < "$state/iommu/$1.before"
    if [ ! -e /dev/iommu ]; then
        say "/dev/iommu is gone: there is nothing to put back"
    elif [ "$how" = owner ]; then
        [ "$(stat -c %u /dev/iommu)" != "$(id -u "$1")" ] || run chown -h "$was" /dev/iommu
    else
        command -v setfacl > /dev/null || stop "setfacl is not there, and is needed to take the entry of $1 from /dev/iommu. Install acl."
        if [ -n "$was" ]; then run setfacl -m "u:$1:$was" /dev/iommu; elif [ -n "$(acl_of "$1")" ]; then run setfacl -x "u:$1" /dev/iommu; fi
        # With the last of them everything is as it was, the mask too, unless somebody has changed other entries since.
        if [ "$(iommu_users || true)" = "$state/iommu/$1.before" ] && [ -e "$state/iommu.acl" ]; then
            before=$(cat "$state/iommu.acl")
            if [ "$(acl | grep -v ^mask)" != "$(printf '%s\n' "$before" | grep -v ^mask)" ]; then
                [ -n "$dry" ] || say "/dev/iommu: its ACL has other entries than before these scripts; they stay"
            elif [ "$(acl)" != "$before" ]; then
                [ -n "$dry" ] || printf '%s\n' "$before" | setfacl --set-file=- /dev/iommu || stop "setfacl failed for /dev/iommu. $hint"
            fi
            drop "$state/iommu.acl"
        fi
    fi
    drop "$state/iommu/$1/$2" "$state/iommu/$1.before"
}

pages() { # NODE|any KIB: where the kernel keeps them
    if [ "$1" = any ]; then printf %s "$sys/kernel/mm/hugepages/hugepages-$2kB"; else printf %s "$sys/devices/system/node/node$1/hugepages/hugepages-$2kB"; fi
}
pages_of_others() { # NODE|any KIB SCRIPT: those of any node and those of one come from the same pools
    local but=$state/pages/$1-$2/$3
    if [ "$1" = any ]; then others "$but" "$state/pages"/*-"$2"; else others "$but" "$state/pages/$1-$2"; fi
}
hugepages() { # NODE|any KIB COUNT SCRIPT
    local d total free used=0 want was
    d=$(pages "$1" "$2")
    [ -d "$d" ] || stop "this kernel has no hugepages of $2 KiB (node $1)."
    total=$(value "$d/nr_hugepages") free=$(value "$d/free_hugepages")
    # A running VM of these scripts uses some of them: what others use is what was in use before the first script.
    if [ -e "$state/pages-$1-$2" ]; then read -r was used < "$state/pages-$1-$2"; else used=$((total - free)) was=$total; fi
    want=$((used + $3 + $(pages_of_others "$1" "$2" "$4")))
    if [ "$total" -ge "$want" ]; then say "hugepages of $2 KiB (node $1): $total are there, $want are needed"; else
        say "hugepages of $2 KiB (node $1): $want are needed with those in use, $total are there"
    fi
    remember "pages-$1-$2" "$was $used"
    keep "$state/pages/$1-$2/$4" "$3"
    if [ "$total" -ge "$want" ]; then return; fi
    put "$want" "$d/nr_hugepages"
    [ -n "$dry" ] || [ "$(value "$d/nr_hugepages")" -ge "$want" ] ||
        stop "the kernel found only $(value "$d/nr_hugepages") hugepages of $2 KiB; reserve $want on its command line. $hint"
}
undo_hugepages() { back "the hugepages of $2 KiB (node $1)" hugepages_back "$@"; }
hugepages_back() { # NODE|any KIB SCRIPT
    local d was used want rest
    d=$(pages "$1" "$2")
    [ -e "$state/pages-$1-$2" ] || return 0
    [ -d "$d" ] || stop "this kernel shows no hugepages of $2 KiB (node $1) any more. $hint"
    read -r was used < "$state/pages-$1-$2"
    rest=$(others "$state/pages/$1-$2/$3" "$state/pages/$1-$2")
    want=$((used + $(pages_of_others "$1" "$2" "$3")))
    [ "$want" -gt "$was" ] || want=$was
    if [ "$rest" != 0 ] && [ ! -e "$state/pages/$1-$2/$3" ]; then return; fi
    if [ "$(value "$d/nr_hugepages")" -gt "$want" ]; then put "$want" "$d/nr_hugepages"; fi
    [ -n "$dry" ] || [ "$(value "$d/nr_hugepages")" -le "$want" ] || stop "hugepages of $2 KiB (node $1): $(value "$d/nr_hugepages") are left, and were $want before: a VM still uses them. $hint"
    drop "$state/pages/$1-$2/$3"
    [ "$rest" != 0 ] || drop "$state/pages-$1-$2"
}

# iommufd charges pinned memory per user: the limit is the sum over all scripts that have run for that user.
memlock() { # USER KIB SCRIPT
    keep "$kept/memlock/$1/$3" "$2"
    write_memlock "$1" "$(($(others "$kept/memlock/$1/$3" "$kept/memlock/$1") + $2))"
}
undo_memlock() { back "the memlock limit of $1" memlock_back "$@"; }
memlock_back() { # USER SCRIPT
    [ -e "$kept/memlock/$1/$2" ] || return 0
    write_memlock "$1" "$(others "$kept/memlock/$1/$2" "$kept/memlock/$1")"
    drop "$kept/memlock/$1/$2"
}
limits=/etc/security/limits.d
# A file that these scripts have written and nobody has changed since: it says so of itself.
unchanged() { # FILE
    [ -f "$1" ] && [ "$(sed -n 's/^# unchanged: //p' "$1")" = "$(grep -v '^# unchanged: ' "$1" | sha256sum | cut -c 1-16)" ]
}
# A file that was there before under this name stays beside it, itself and not a copy, under a name that PAM does not read.
write_memlock() { # USER KIB
    local file=$limits/smmu-wizard-$1.conf hard=0 soft=0 text
    if ! unchanged "$file"; then
        if [ -L "$file" ] || { [ -e "$file" ] && [ ! -f "$file" ]; }; then stop "$file is a link or no file. Remove it, and run this again."; fi
    fi
    read -r hard soft < <(limits_of "$1") || true
    if [ "$2" = 0 ] || { enough "$hard" "$2" && enough "$soft" "$2"; }; then
        [ "$2" = 0 ] || say "memlock of $1: the administrator's own limit (hard $hard, soft $soft) is enough for $2 KiB, and stays"
        if unchanged "$file"; then
            if [ -e "$file.before" ]; then run mv -f "$file.before" "$file"; else run rm -f "$file"; fi
        elif [ -e "$file.before" ]; then
            # Two names of one file after a run that was killed in between; else somebody has written the file anew.
            [ "$file.before" -ef "$file" ] || say "$file: was changed by somebody, and stays as it is"
            run rm -f "$file.before"
        fi
        return
    fi
    if enough "$hard" "$2"; then say "memlock of $1: the administrator's hard limit of $hard is higher, and stays"; else hard=$2; fi
    if enough "$soft" "$2"; then say "memlock of $1: the administrator's soft limit of $soft is higher, and stays"; else soft=$2; fi
    text="# made by preparation scripts of smmu-wizard: guest memory of the VMs of $1 is pinned
$1 hard memlock $hard
$1 soft memlock $soft"
    text+="
# unchanged: $(printf '%s\n' "$text" | sha256sum | cut -c 1-16)"
    if [ "$(cat "$file" 2>/dev/null || true)" = "$text" ]; then say "$file: is there"; return; fi
    say "$file: $2 KiB for $1 (from the next login on)"
    new_directory "$limits"
    if [ -e "$file" ] && ! unchanged "$file"; then run ln -f "$file" "$file.before"; fi
    keep "$file" "$text"
}
enough() { # LIMIT KIB
    case $1 in unlimited) return 0;; esac
    [ "$1" -ge "$2" ]
}
# What the administrator's own lines give a user, in KiB or "unlimited": as pam_limits reads them, limits.conf and then limits.d in order, where a
# line for the user beats one for a group, that one beats *, and the later of two of a kind counts. Without a line it is systemd's default.
limits_of() { # USER
    local file name default=0
    if [ -d /run/systemd/system ]; then default=$(systemctl show --value --property DefaultLimitMEMLOCK 2>/dev/null || true); fi
    case $default in infinity) default=unlimited;; *[!0-9]* | '') default=0;; *) default=$((default / 1024));; esac
    for file in "${limits%.d}.conf" "$limits"/*.conf; do
        name=$file
        if [ "$file" = "$limits/smmu-wizard-$1.conf" ] && unchanged "$file"; then name=$file.before; fi
        [ ! -f "$name" ] || cat "$name"
        printf '\n'
    done | awk -v user="$1" -v uid="$(id -u "$1" 2>/dev/null || true)" -v groups="$(id -Gn "$1" 2>/dev/null || true)" -v gids="$(id -G "$1" 2>/dev/null || true)" -v default="$default" '
        function among(name, list,   words, count, i) { count = split(list, words, " "); for (i = 1; i <= count; i++) if (words[i] == name) return 1; return 0 }
        function within(range, numbers,   ends, words, count, i) { # MIN:MAX, either may be missing; :N alone is N
            split(range, ends, ":"); count = split(numbers, words, " ")
            for (i = 1; i <= count; i++) {
                if (ends[1] == "" ? words[i] == ends[2] : words[i] >= ends[1] + 0 && (ends[2] == "" || words[i] <= ends[2] + 0)) return 1
            }
            return 0
        }
        function rank(domain) {
            if (domain == user) return 3
            if (domain ~ /^[0-9]*:[0-9]*$/ && domain != ":") return within(domain, uid) ? 3 : 0
            if (domain ~ /^@[0-9]*:[0-9]*$/ && domain != "@:") return within(substr(domain, 2), gids) ? 2 : 0
            if (domain ~ /^@/) return among(substr(domain, 2), groups) ? 2 : 0
            return domain == "*" ? 1 : 0
        }
        BEGIN { hard = soft = default }
        { sub(/#.*/, "") }
        NF >= 4 && tolower($3) == "memlock" && (r = rank($1)) {
            value = tolower($4)
            if (value ~ /^(unlimited|infinity|-1)$/) value = "unlimited"
            else if (value !~ /^[0-9]+$/) next
            type = tolower($2)
            if (type !~ /^(hard|soft|-)$/) next
            if (type != "soft" && r >= hard_rank) { hard = value; hard_rank = r };
            if (type != "hard" && r >= soft_rank) { soft = value; soft_rank = r };
        }
        END { print hard, soft }'
}
