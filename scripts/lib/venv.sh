# The checkout's own virtual environment (sourced by bash): .venv, made when it is missing or when pyproject.toml has changed.
#
# Environment: PYTHON names the interpreter to use, SMMU_WIZARD_VENV another directory than .venv; SMMU_WIZARD_LOCK=no installs what the tests
# need by the lower bounds of pyproject.toml, as users do, instead of the releases that requirements-dev.lock names by their hashes.

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV=${SMMU_WIZARD_VENV:-$PROJECT/.venv}
LOCK=$PROJECT/requirements-dev.lock

note() { printf '%s\n' "$*" >&2; }
fail() { printf '%s\n' "$1" >&2; exit "${2:-4}"; }

# Those of the Debian packages given that are missing.
missing_packages() { # PACKAGE...
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
    done
}

# Install what is missing when we are root, else say exactly what is. Status 1 when something is still missing.
debian_packages() { # WHAT-FOR PACKAGE...
    local purpose=$1 missing; shift
    command -v dpkg-query > /dev/null || { note "Not a Debian system: see to it yourself that there is what Debian calls: $*"; return 1; }
    missing=$(missing_packages "$@"); missing=${missing% }
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        note "Missing Debian packages ($purpose): $missing"
        note "    apt-get install $missing          (as root)"
        return 1
    fi
    note "Installing Debian packages ($purpose): $missing"
    local log; log=$(mktemp)
    # shellcheck disable=SC2086 # a list of package names
    if { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends $missing; } > "$log" 2>&1 < /dev/null; then
        rm -f "$log"
    else
        tail -n 8 "$log" >&2
        note "apt could not install: $missing (its log: $log)"
        return 1
    fi
}

find_python() {
    local python
    for python in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then printf '%s\n' "$python"; return; fi
    done
    fail "Python 3.11 or newer is needed, and none was found${PYTHON:+ as $PYTHON}: install Debian's python3, or name one with PYTHON=…"
}

# A new virtual environment in VENV. An unpacked Debian's Python has its pip as a wheel below itself, and looks for it below /usr.
new_environment() { # PYTHON
    local wheel
    wheel=$("$1" -c 'import glob, sys; print(*sorted(glob.glob(sys.base_prefix + "/usr/share/python-wheels/pip-*.whl"))[-1:])')
    if [ -n "$wheel" ]; then
        "$1" -m venv --clear --without-pip "$VENV" >&2 && "$VENV/bin/python" "$wheel/pip" --quiet install "$wheel" >&2 < /dev/null
    else
        "$1" -m venv --clear "$VENV" >&2
    fi
}

pip_install() { # ARGUMENT...
    PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 "$VENV/bin/python" -m pip --quiet install "$@" >&2 < /dev/null
}

# What the lock file names, each file by its hash. Status 1 where the lock is not wanted, made for other Pythons, or its releases are not in the
# package index of this machine; a file with another hash than the locked one ends everything.
locked() {
    local log
    [ "${SMMU_WIZARD_LOCK:-}" != no ] || { note "Without the lock, as asked: by the lower bounds of pyproject.toml."; return 1; }
    [ -f "$LOCK" ] || { note "There is no $LOCK: by the lower bounds of pyproject.toml."; return 1; }
    # scripts/lock resolves for 3.11 and newer; nobody has tried what comes after 3.14
    "$VENV/bin/python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' ||
        { note "The lock is for Python 3.11 to 3.14: by the lower bounds of pyproject.toml."; return 1; }
    log=$(mktemp)
    if pip_install --require-hashes --requirement "$LOCK" 2> "$log"; then rm -f "$log"; return; fi
    cat "$log" >&2
    if grep -q "DO NOT MATCH THE HASHES" "$log"; then
        rm -f "$log"
        fail "A package is not the one that requirements-dev.lock names (above): look where it came from before you install anything."
    fi
    rm -f "$log"
    note "The locked releases can't be had here (above is why): by the lower bounds of pyproject.toml."
    return 1
}

# A virtual environment in VENV with the program, editable, and the named extra. An environment with more than was asked for is fine.
environment() { # base|test
    local level=$1 python wanted have extra
    [ "$level" = base ] && extra= || extra=[$level]
    python=$(find_python)
    wanted="$({ cat "$PROJECT/pyproject.toml"; [ ! -f "$LOCK" ] || cat "$LOCK"; } | cksum) ${SMMU_WIZARD_LOCK:-} $PROJECT $("$python" -c 'import sys; print(sys.version)' | tr -d '\n')"
    mkdir -p "$(dirname "$VENV")" 2> /dev/null && [ -w "$(dirname "$VENV")" ] ||
        fail "$(dirname "$VENV") is not writable: name a place for the virtual environment with SMMU_WIZARD_VENV=…" 5
    exec 8> "$VENV.lock"
    flock -n 8 || { note "Waiting for another run that makes $VENV"; flock 8; }
    have=$(cat "$VENV/smmu-wizard-$level" "$VENV/smmu-wizard-test" 2> /dev/null | sort -u || true)
    if [ "$have" != "$wanted" ]; then
        if ! "$python" -c 'import ensurepip, venv' 2> /dev/null; then
            debian_packages "to make a virtual environment" python3-venv || fail "No virtual environment can be made without python3-venv."
            "$python" -c 'import ensurepip, venv' 2> /dev/null || fail "$python has no venv module: install the one that belongs to it."
        fi
        note "Installing smmu-wizard${extra:+ and what its tests need} into $VENV"
        [ "$(cat "$VENV/smmu-wizard-base" 2> /dev/null)" = "$wanted" ] || new_environment "$python" || fail "No virtual environment could be made in $VENV."
        if [ "$level" = test ] && locked; then
            pip_install --no-deps --no-build-isolation --editable "$PROJECT" || fail "pip could not install the checkout (above is why)."
        else
            pip_install --editable "$PROJECT$extra" || fail "pip could not install the packages (above is why): is the package index reachable?"
        fi
        printf '%s\n' "$wanted" > "$VENV/smmu-wizard-$level"
    fi
    exec 8>&-
}
