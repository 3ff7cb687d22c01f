# ---- files: every path that is written or given away is plain, inside the program's own directories, and looked at again here ----

# Whether root alone decides what is at a path: no link on the way, every part owned by root, and none that others could put something else
# in the place of (a sticky directory such as /tmp is fine for what is there and is root's).
roots_own() { # PATH
    local at='' rest=${1#/} part
    while [ -n "$rest" ]; do
        part=${rest%%/*}
        at=$at/$part
        if [ -L "$at" ]; then return 1; fi
        case $(stat -c '%u %A' "$at" 2>/dev/null || true) in
            '0 '?????w???[!tT] | '0 '????????w[!tT]) return 1;;
            '0 '*) ;;
            *) return 1;;
        esac
        case $rest in */*) rest=${rest#*/};; *) rest='';; esac
    done
}
# Made to be taken away again: by the last undo, or by that of the VM.
new_directory() { # PATH [MODE [PREFIX]]
    if [ -d "$1" ]; then return; fi
    new_directory "$(dirname "$1")"
    case $1 in "$state" | "$kept") ;; *) remember "${3:-made}-$(key "$1")" "$1";; esac
    if [ -n "$dry" ]; then say "  mkdir $1"; else mkdir -m "${2:-755}" "$1" || stop "$1 can't be made a directory. $hint"; fi
}
key() { printf %s "$1" | sha256sum | cut -c 1-16; }
# A directory of the program's own below /run or /var/lib, made where it is missing.
room() { # PATH [MODE]
    local at rest part
    case $1 in
        */./* | */../* | */. | */.. | *//* | */) stop "$1 is no plain path: it has '.', '..' or '//' in it. Correct the profile.";;
        /run/smmu-wizard*) at=/run;;
        /var/lib/smmu-wizard*) at=/var/lib;;
        *) stop "$1 is not in a directory of smmu-wizard. Make it yourself, and run this again.";;
    esac
    rest=${1#"$at"/}
    roots_own "$(readlink -f "$at")" || stop "$at or a directory above it belongs to somebody else than root, or can be written by others."
    while [ -n "$rest" ]; do
        part=${rest%%/*}
        at=$at/$part
        case $rest in */*) rest=${rest#*/};; *) rest='';; esac
        if [ ! -e "$at" ] && [ ! -L "$at" ]; then new_directory "$at" "${2:-755}"; fi
        if [ -n "$dry" ] && [ ! -e "$at" ]; then return; fi
        if [ -L "$at" ] || [ ! -d "$at" ]; then stop "$at is a link or no directory. Remove it, and run this again."; fi
        roots_own "$(readlink -f "${at%/*}")/$part" || stop "$at does not belong to root, or can be written by others. Move it away, and run this again."
    done
}
# Whether any user may read a file, and nobody but root can put another in its place: a copy of it gives nobody anything.
everyones() { # FILE: without links
    local at=$1
    [ -f "$at" ] && roots_own "$at" || return 1
    case $(stat -c %A "$at") in -??????r*) ;; *) return 1;; esac
    while at=${at%/*}; [ -n "$at" ]; do case $(stat -c %A "$at") in d????????[xt]) ;; *) return 1;; esac; done
}

directory() { # PATH USER: the VM's own, for its QMP socket
    local name=${1#/run/smmu-wizard/} owner
    if [ "$name" = "$1" ]; then
        [ -d "$1" ] || stop "$1 is not there, and this script makes directories in /run/smmu-wizard only. Make it for $2, and run this again."
        return
    fi
    case $name in '' | .* | */*) stop "$1 is not the directory of a VM. Leave qmp out of the profile.";; esac
    room /run/smmu-wizard
    if [ -L "$1" ] || { [ -e "$1" ] && [ ! -d "$1" ]; }; then stop "$1 is a link or no directory. Remove it, and run this again."; fi
    new_directory "$1" 700 vm # QEMU makes the socket by its umask: nobody else gets as far as to try it
    if [ -n "$dry" ] && [ ! -e "$1" ]; then return; fi
    owner=$(stat -c %u "$1")
    if [ "$owner" = "$(id -u "$2")" ]; then return; fi
    remember "directory-$(key "$1")" "$owner"
    run chown -h "$2" "$1"
}
undo_directory() { back "$1" directory_back "$1"; }
directory_back() { # PATH
    local name=${1#/run/smmu-wizard/} owner made
    case $name in "$1" | '' | .* | */*) return 0;; esac
    owner=$state/directory-$(key "$1") made=$state/vm-$(key "$1")
    if [ -d "$1" ] && [ ! -L "$1" ]; then
        if [ -e "$made" ]; then
            # QEMU leaves its socket behind when it is killed.
            [ -n "$dry" ] || find "$1" -maxdepth 1 -type s -delete
            if [ -z "$(find "$1" -mindepth 1 ! -type s -print -quit)" ]; then run rmdir "$1"; else say "$1 stays: there are files in it"; fi
        elif [ -e "$owner" ]; then
            run chown -h "$(cat "$owner")" "$1"
        fi
    fi
    drop "$owner" "$made"
}

vars() { # TEMPLATE FILE USER: the VM's own variables of the firmware, a copy of the template
    local template owner
    case $2 in
        /var/lib/smmu-wizard/?*) ;;
        *)
            [ -e "$2" ] || stop "$2 is not there, and this script makes files in /var/lib/smmu-wizard only. Copy $1 there for $3, and run this again."
            say "$2: is there"
            return;;
    esac
    room "$(dirname "$2")"
    if [ -L "$2" ] || { [ -e "$2" ] && [ ! -f "$2" ]; }; then stop "$2 is a link or no file. Remove it, and run this again."; fi
    if [ -e "$2" ]; then
        say "$2: is there"
        owner=$(stat -c %u "$2")
        if [ "$owner" = "$(id -u "$3")" ]; then return; fi
        remember "vars-$(key "$2")" "$owner"
        run chown -h "$3" "$2"
        return
    fi
    template=$(readlink -f "$1")
    everyones "$template" || [ -n "$dry" ] || stop "$1 is no file of root's that every user may read: the VM's user gets no copy of it. Correct vars_template in the profile."
    run install -m 600 -o "$3" "$template" "$2.new"
    run mv -f "$2.new" "$2"
}
undo_vars() { back "$1" vars_back "$1"; }
vars_back() { # FILE: it stays, with the owner that it had before
    local owner
    owner=$state/vars-$(key "$1")
    if [ -e "$owner" ] && [ -f "$1" ] && [ ! -L "$1" ]; then run chown -h "$(cat "$owner")" "$1"; fi
    drop "$owner"
}

# ---- the systemd unit ----

# Units start in the order in which they were installed, one after the other: each names those before it.
install_unit() { # NAME
    local file=/etc/systemd/system/$1.service before='' unit
    # A script that came through a pipe has no file that could be kept.
    grep -qs '^# ---- what follows is the same in every script of smmu-wizard' "$0" || stop "the unit needs this script as a file: save it and run it by its name."
    say "$file: runs this script at every boot"
    if [ -n "$dry" ]; then return; fi
    grep -qsxF "$1" "$kept/units" || keep "$kept/units" "$(cat "$kept/units" 2>/dev/null || true; printf %s "$1")"
    while IFS= read -r unit; do
        if [ "$unit" = "$1" ]; then break; fi
        [ -z "$unit" ] || [ ! -e "/etc/systemd/system/$unit.service" ] || before+=" $unit.service"
    done < "$kept/units"
    new_directory /usr/local/libexec
    run install -m 755 "$0" "/usr/local/libexec/$1.new"
    run mv -f "/usr/local/libexec/$1.new" "/usr/local/libexec/$1"
    keep "$file" "[Unit]
Description=Prepare functions for virtual machines (smmu-wizard)
After=systemd-modules-load.service systemd-udev-trigger.service$before
Before=libvirtd.service virtqemud.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/libexec/$1

[Install]
WantedBy=multi-user.target"
    reload_units
    systemctl enable "$1.service" || stop "the unit can't be enabled. $hint"
}
reload_units() { [ ! -d /run/systemd/system ] || run systemctl daemon-reload; }
remove_unit() { # NAME
    local file=/etc/systemd/system/$1.service other
    if [ ! -e "$file" ] && [ ! -e "/usr/local/libexec/$1" ] && ! grep -qsxF "$1" "$kept/units"; then return; fi
    say "$file: does not run at boot any more"
    if [ -e "$file" ]; then run systemctl disable "$1.service"; fi
    for other in /etc/systemd/system/smmu-wizard-*.service; do
        if grep -qs "^After=.* $1\.service" "$other"; then keep "$other" "$(sed "/^After=/s/ $1\.service//" "$other")"; fi
    done
    run rm -f "$file" "/usr/local/libexec/$1"
    reload_units
    if [ -e "$kept/units" ]; then
        other=$(grep -vxF "$1" "$kept/units" || true)
        if [ -n "$other" ]; then keep "$kept/units" "$other"; else drop "$kept/units"; fi
    fi
}
undo_unit() { back "the unit $1" remove_unit "$1"; }
