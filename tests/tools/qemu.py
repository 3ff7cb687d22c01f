"""A real QEMU, and what comes with it; ``wizard.rehearsal.process.running`` starts one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache as once
from pathlib import Path

from tests.tools.cache import cache, skip_loudly
from tests.tools.processes import LIMIT

#: iommufd and accel came with 10.2; nothing older can be asked about them.
OLDEST = (10, 2)
HOW = "scripts/debian-tools unpacks one"


@once
def find_qemu() -> Path | None:
    """``qemu-system-aarch64``: of $SMMU_WIZARD_QEMU, else of the cache, else of PATH; None when none is 10.2 or later."""
    candidates = [os.environ.get("SMMU_WIZARD_QEMU"), str(cache() / "debian/bin/qemu-system-aarch64"), shutil.which("qemu-system-aarch64")]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK) and version(Path(candidate)) >= OLDEST:
            return Path(candidate)
    return None


def version(qemu: Path) -> tuple[int, int]:
    """Major and minor version, as ``--version`` says; (0, 0) when it says something else."""
    said = subprocess.run([qemu, "--version"], capture_output=True, text=True, timeout=LIMIT, check=False).stdout
    found = re.search(r"version (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def require_qemu() -> Path:
    """The QEMU to ask; skips loudly when there is none."""
    found = find_qemu()
    if found is None:
        skip_loudly("no qemu-system-aarch64 10.2 or later", HOW)
    return found


def require_old_qemu() -> Path:
    """QEMU 10.0, from before arm-smmuv3 could be plugged; skips loudly when there is none."""
    found = cache() / "old-qemu/bin/qemu-system-aarch64"
    if not found.exists():
        skip_loudly("no QEMU of before 10.2", "scripts/debian-tools --with old-qemu unpacks one")
    return found


def require_iasl() -> Path:
    """ACPICA's disassembler; skips loudly when there is none."""
    unpacked = cache() / "debian/bin/iasl"
    if unpacked.exists():
        return unpacked
    found = shutil.which("iasl")
    if found is None:
        skip_loudly("no iasl", HOW)
    return Path(found)


def require_firmware() -> tuple[Path, Path]:
    """AAVMF's code and variables without secure boot; skips loudly when there are none."""
    for top in (cache() / "debian", Path("/")):
        code, variables = (top / "usr/share/AAVMF" / name for name in ("AAVMF_CODE.no-secboot.fd", "AAVMF_VARS.fd"))
        if code.exists() and variables.exists():
            return code, variables
    skip_loudly("no AAVMF firmware", HOW)
