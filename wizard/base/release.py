"""Releases of Linux by their name, and what changed with one of them where rooms that may not import each other have to know."""

from __future__ import annotations

import re

COMMAND_FIELDS = (7, 3)
"""Since this release iommufd checks every field of a guest's invalidation commands, not the opcode alone: arm_vsmmu_validate_user_cmd() in
drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c, in Linux 7.3.4 and not in 7.2.13 (sources: kernel-command-fields)."""

_RELEASE = re.compile(r"(\d{1,4})\.(\d{1,4})")
_CANDIDATE = re.compile(r"\d{1,4}\.\d{1,4}(?:\.0)?[-~](?:0\.|\d{6})?rc\d")
"""Of mainline (7.3-rc2, 7.3.0-rc2), Debian (7.3~rc2-arm64), Fedora (7.3.0-0.rc2.15.fc45), Ubuntu (7.3.0-070300rc2-generic).

7.3.5-rc1 is none of 7.3, but comes after it.
"""


def release_of(text: str | None) -> tuple[int, int] | None:
    """Version and patch level of a kernel release: ``6.8.0-1138-nvidia`` is (6, 8). None for anything else."""
    match = _RELEASE.match(text or "")
    return (int(match[1]), int(match[2])) if match else None


def reached(text: str | None, since: tuple[int, int]) -> bool | None:
    """Whether a kernel of this release is as new as ``since``, by its name alone: a distribution may have brought a change to an older one.

    None where the name tells no release, and for a candidate of ``since`` itself, which may have been cut before the change.
    """
    found = release_of(text)
    if found is None or (found == since and _CANDIDATE.match(text or "")):
        return None
    return found >= since
