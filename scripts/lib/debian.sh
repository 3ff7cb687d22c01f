# Debian packages, unpacked and never installed: shared by scripts/debian-tools and tests/armhost/build.sh (sourced by bash).
#
# CACHE is where everything lands, SUITE and MIRROR where it comes from. Nothing here needs root or enters a chroot.

CACHE=${SMMU_WIZARD_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or SMMU_WIZARD_CACHE}/.cache}/smmu-wizard}
SUITE=${SMMU_WIZARD_SUITE:-forky}
started=$SECONDS
say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*" >&2; }
die() { printf '%s\n' "$1" >&2; exit "${2:-4}"; }

# The mirror of this machine's own apt: no name of one belongs into the project.
debian_mirror() {
    local found=${SMMU_WIZARD_MIRROR:-}
    [ -n "$found" ] || found=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m 1 -E '/debian/?$') ||
        die "apt on this machine names no Debian mirror; set SMMU_WIZARD_MIRROR to the URL of one"
    printf '%s\n' "${found%/}"
}

# One build at a time in a cache; a second one waits and then finds the result.
with_lock() {
    command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || die "apt-get and dpkg-deb are needed: this works on Debian and its relatives"
    mkdir -p "$CACHE"
    exec 9> "$CACHE/lock"
    flock -n 9 || { say "waiting for another build in $CACHE"; flock 9; }
}

apt_log() { "$@" >> "$CACHE/apt.log" 2>&1 || { tail -n 15 "$CACHE/apt.log" >&2; die "apt failed (its log: $CACHE/apt.log)"; }; }

# An apt of our own in DIR for one architecture, with an empty status so that a closure is a whole closure.
apt_private() { # DIR ARCH
    local dir=$1 arch=$2 trust=
    mkdir -p "$dir"/{lists/partial,cache/archives/partial,etc/preferences.d,etc/apt.conf.d}
    : > "$dir/status"
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keyring" ] || die "$keyring is missing: install debian-archive-keyring"
    trust="signed-by=$keyring"
    echo "deb [$trust arch=$arch] $(debian_mirror) $SUITE main" > "$dir/etc/sources.list"
    cat > "$dir/apt.conf" <<C
Dir::State "$dir"; Dir::State::Lists "$dir/lists"; Dir::State::status "$dir/status";
Dir::Cache "$dir/cache"; Dir::Cache::archives "$dir/cache/archives";
Dir::Etc "$dir/etc"; Dir::Etc::sourcelist "$dir/etc/sources.list"; Dir::Etc::sourceparts "/dev/null";
APT::Architecture "$arch"; APT::Architectures { "$arch"; };
APT::Install-Recommends "false"; APT::Sandbox::User ""; Acquire::Languages "none";
Acquire::Check-Valid-Until "false"; Acquire::Retries "3"; Debug::NoLocking "true";
C
    date > "$CACHE/apt.log"
    APT_CONFIG=$dir/apt.conf apt_log apt-get -q update
}

# The packages and all that they depend on, as files in DIR/cache/archives and nothing else there.
apt_closure() { # DIR PACKAGE...
    local dir=$1; shift
    rm -f "$dir"/cache/archives/*.deb
    APT_CONFIG=$dir/apt.conf apt_log apt-get -qy --download-only install "$@"
}

# The package alone, without what it depends on.
apt_one() { # DIR PACKAGE
    local dir=$1; shift
    rm -f "$dir"/cache/archives/*.deb
    (cd "$dir/cache/archives" && APT_CONFIG=$dir/apt.conf apt_log apt-get -q download "$@")
}

# base-files first: it has the links from /lib and /bin into /usr.
unpack_closure() { # DIR ROOT
    local deb
    mkdir -p "$2"
    for deb in "$1"/cache/archives/base-files_*.deb "$1"/cache/archives/*.deb; do [ ! -e "$deb" ] || dpkg-deb -x "$deb" "$2"; done
    rm -f "$1"/cache/archives/*.deb
}

# The dynamic linker of an unpacked root, relative to it.
dynamic_linker() { # ROOT
    local file
    for file in "$1"/usr/lib64/ld-linux-*.so.* "$1"/usr/lib/ld-linux-*.so.*; do
        [ -e "$file" ] && { printf '%s\n' "${file#"$1/"}"; return; }
    done
    die "no dynamic linker was unpacked into $1"
}

# What packages' installation scripts would have made, as far as a program run in the root misses it.
root_skeleton() { # ROOT
    local root=$1
    mkdir -p "$root"/{proc,sys,dev,run,tmp,root,var/tmp,etc}
    rmdir "$root/var/run" 2> /dev/null || true; ln -sfn ../run "$root/var/run"
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    local group
    for group in kvm:992 render:991 input:990 sgx:989 clock:988 systemd-journal:987 netdev:986; do echo "${group%%:*}:x:${group##*:}:" >> "$root/etc/group"; done
    [ -e "$root/usr/bin/awk" ] || ln -s mawk "$root/usr/bin/awk"
    [ -e "$root/usr/bin/sh" ] || ln -s dash "$root/usr/bin/sh"
    (cd "$root/usr/lib" && for d in *-linux-gnu; do printf '/usr/local/lib\n/usr/lib/%s\n' "$d"; done) > "$root/etc/ld.so.conf"
}

# NAME in the cache holds exactly what KEY stands for: left alone if so, else built beside it and moved into place.
install_root() { # NAME KEY BUILD-FUNCTION
    local name=$1 key=$2 build=$3 new
    if [ "$(cat "$CACHE/$name/key" 2>/dev/null)" = "$key" ]; then
        say "$CACHE/$name is there: $(head -n 1 "$CACHE/$name/version")"; return
    fi
    new=$CACHE/.$name.$$
    trap 'rm -rf "'"$new"'"' EXIT
    "$build" "$new"
    printf '%s\n' "$key" > "$new/key"
    rm -rf "$CACHE/.$name.old"
    [ ! -e "$CACHE/$name" ] || mv "$CACHE/$name" "$CACHE/.$name.old"
    mv "$new" "$CACHE/$name"
    rm -rf "$CACHE/.$name.old"
    trap - EXIT
    say "$CACHE/$name: $(head -n 1 "$CACHE/$name/version")"
}
