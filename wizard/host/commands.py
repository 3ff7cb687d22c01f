"""How a guest's invalidation commands are looked at: field by field since Linux 7.3, by opcode alone before.

They go to the queue that every function behind an SMMU shares. Where the hardware finds one of them ILLEGAL, that queue stands still until the
driver has skipped it: seen with Linux 7.2.13 and one CMD_CFGI_CD with SSec set ("CMDQ error (cons 0x…): Illegal command"; a second one ended in
ETIMEDOUT). Linux 7.3.4 answers EIO to the guest alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.finding import Area, Definition, Finding, Kind, Severity, define
from wizard.base.release import COMMAND_FIELDS, reached, release_of
from wizard.base.text import visible
from wizard.host.model import Accel, Host


def _info(code: str, *, what: str, why: str, fix: str) -> Definition:
    return define(code, Severity.INFO, Kind.TODO, Area.HOST, what=what, why=why, fix=fix)


CHECKED = _info(
    "guest-commands-checked",
    what="The kernel {release} checks every field of a guest's SMMU commands.",
    why="Since Linux 7.3 a malformed command ends in an error for its guest alone. The SMMU's own queue, which all functions behind it share, never "
    "sees it: functions of one SMMU can be given to tenants who do not trust each other's software.",
    fix="Nothing to do.",
)  # fmt: skip
UNCHECKED = _info(
    "guest-commands-unchecked",
    what="The kernel {release} looks at the opcode of a guest's SMMU commands, not at their fields.",
    why="Before Linux 7.3 a malformed command of a guest can stop the SMMU's own queue ('CMDQ error … Illegal command'), which all functions "
    "behind it share, until the driver has skipped it. A tenant can disturb the others behind the same SMMU; their memory stays out of reach.",
    fix="Give functions of one SMMU to one tenant, or use Linux 7.3 or newer. Ask your distributor whether an older kernel has the check "
    "(arm_vsmmu_validate_user_cmd).",
)  # fmt: skip
UNKNOWN = _info(
    "guest-commands-unknown",
    what="Whether the kernel checks every field of a guest's SMMU commands is not known: {because}.",
    why="Since Linux 7.3 it does. Before, a malformed command of a guest can stop the SMMU's own queue, which all functions behind it share.",
    fix="Look at `uname -r` on the host. Until you know, give functions of one SMMU to one tenant.",
)  # fmt: skip


def checks_commands(host: Host) -> bool | None:
    """Whether the host's kernel checks a guest's commands field by field, by its release; None where that is not known."""
    return reached(host.facts.kernel.release, COMMAND_FIELDS)


def matters(host: Host) -> bool:
    """Whether any function may come behind an accelerated vSMMU here: else no guest has commands to send."""
    return any(not function.is_bridge and host.verdict(address).accel is not Accel.NO for address, function in host.functions.items())


def guest_commands(host: Host) -> Iterator[Finding]:
    """On which side of Linux 7.3 the host is."""
    if not matters(host):
        return
    release, checked = visible(host.facts.kernel.release), checks_commands(host)
    if checked is None:
        yield UNKNOWN.at("host", because=_why_unknown(release))
    else:
        yield (CHECKED if checked else UNCHECKED).at("host", release=release)


def _why_unknown(release: str) -> str:
    if not release:
        return "the kernel's release was not read"
    if release_of(release) is None:
        return f"'{release}' is no release of Linux"
    return f"{release} is a candidate for 7.3, and may have been cut before the check"
