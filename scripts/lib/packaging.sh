# The Debian forky in which packages are built: shared by scripts/debian-package and scripts/rpm-package (sourced by bash, after venv.sh and debian.sh).
#
# FORKY is that root, WORK a directory in it (inside: /build) that goes when the script ends, with the source distribution in WORK/source.

FORKY=$CACHE/packaging-root
WORK=$FORKY/build

open_forky() {
    [ "$(id -u)" = 0 ] || die "A package is built in a root of its own, which only root enters."
    environment test
    "$PROJECT/scripts/debian-tools" --with packaging > /dev/null
    exec 7> "$FORKY.lock"
    flock -w 600 7 || die "Another build in $FORKY does not end."
    trap 'rm -rf "$WORK"' EXIT
    rm -rf "$WORK"; mkdir "$WORK"
    (cd "$PROJECT" && "$VENV/bin/python" -m hatchling build -t sdist -d "$WORK" > /dev/null)
    mkdir "$WORK/source"
    tar xzf "$WORK"/smmu_wizard-*.tar.gz -C "$WORK/source" --no-same-owner --strip-components 1
}

inside() { # ROOT COMMAND
    chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/nonexistent LC_ALL=C.UTF-8 TERM=dumb sh -ec "$2"
}

said() { # WHAT ROOT COMMAND: its output only when it fails
    inside "$2" "$3" > "$WORK/log" 2>&1 < /dev/null || { cat "$WORK/log" >&2; die "$1 failed (above is why)."; }
}
