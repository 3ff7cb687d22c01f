"""What a small installation leaves out: a package that is not there is named, and how to get it.

``smmu-wizard-core`` has msgspec alone (packaging/core), a Debian package without its recommendations msgspec, psutil and pyudev: what needs more
says so when it is asked for.
"""

from __future__ import annotations

from wizard.base.errors import ProgramError

PACKAGES = {
    "lxml": ("lxml", "python3-lxml"),
    "msgspec": ("msgspec", "python3-msgspec"),
    "numpy": ("numpy", "python3-numpy"),
    "psutil": ("psutil", "python3-psutil"),
    "pyudev": ("pyudev", "python3-pyudev"),
    "qemu": ("qemu.qmp", "python3-qemu-qmp"),
    "textual": ("textual", "python3-textual"),
    "tomlkit": ("tomlkit", "python3-tomlkit"),
    "yaml": ("pyyaml", "python3-yaml"),
}
"""Import name -> (name for pip, Debian's package)."""


def missing(error: ModuleNotFoundError) -> ProgramError | None:
    """What to say of a package that is not installed; None when it is none of those, so an error of ours."""
    found = PACKAGES.get((error.name or "").partition(".")[0])
    if found is None:
        return None
    return ProgramError(
        f"This needs the Python package {found[0]}, which is not installed.",
        f"apt install {found[1]}, or: pip install smmu-wizard, which has all of them.",
    )
