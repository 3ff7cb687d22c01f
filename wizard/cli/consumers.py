"""``engine`` for the formats of ``wizard.fleet.consumers``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.base.text import visible

if TYPE_CHECKING:
    from wizard.host.model import Host
    from wizard.plan.model import VmPlan

OF_HOST = ("cdi", "dra-slices", "nfd-nodefeature", "nova", "prometheus", "proxmox", "slurm")
OF_VM = ("dra-claim", "incus")
NAMES = (*OF_HOST, *OF_VM)
_TAKES = {
    "node": ("dra-slices", "nfd-nodefeature", "proxmox", "slurm"),
    "driver": ("dra-slices", "dra-claim"),
    "expires": ("nfd",),
    "partial": ("incus", "kubevirt-vm", "kubevirt-vmi"),
    "resource": ("kubevirt-permitted", "kubevirt-vm", "kubevirt-vmi"),
}
"""Which format has a use for an option; of the others it is refused, since it would be left aside in silence."""

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def declare(command: argparse.ArgumentParser) -> None:
    """The options that only these formats have."""
    command.add_argument("--node", metavar="NAME", help=f"what the cluster calls this host: {', '.join(_TAKES['node'])}")
    command.add_argument("--driver", metavar="NAME", help="dra-slices, dra-claim: the DRA driver that hands the functions out")
    command.add_argument("--expires", metavar="DURATION", help="nfd: labels end after so long (30m, 12h, 7d), unless the file is written again")


def refuse(arguments: argparse.Namespace) -> None:
    """``UsageError`` for an option that the format has no use for."""
    for name, formats in _TAKES.items():
        if getattr(arguments, name) is not None and arguments.format not in formats:
            raise UsageError(f"{arguments.format} has no use for --{name}.", f"Leave it away; it belongs to: {', '.join(formats)}.")


def expiry(text: str | None) -> str | None:
    """The moment, in RFC 3339, that is so long from now."""
    if text is None:
        return None
    from datetime import UTC, datetime, timedelta

    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if match is None:
        raise UsageError(f"--expires {visible(text)} is no duration.", "Write for example 30m, 12h or 7d.")
    end = datetime.now(UTC) + timedelta(**{_UNITS[match[2]]: int(match[1])})
    return end.strftime("%Y-%m-%dT%H:%M:%SZ")


def run(arguments: argparse.Namespace, planned: Callable[[argparse.Namespace, Host], VmPlan | None]) -> int:
    """One file for a consumer; status 1 when the profile has an error on this host. ``planned`` plans the profile that the words name."""
    from wizard.cli.output import emit, say
    from wizard.cli.source import host_for
    from wizard.fleet.consumers import OF_HOST as HOSTS
    from wizard.fleet.consumers import OF_VM as VMS
    from wizard.fleet.consumers import Options

    options = Options(node=arguments.node, driver=arguments.driver, expires=expiry(arguments.expires), partial=bool(arguments.partial))
    host = host_for(arguments)
    if arguments.format in HOSTS:
        if arguments.profile:
            raise UsageError(f"{arguments.format} speaks of a host and takes no profile.", f"Leave {visible(arguments.profile)} away.")
        made = HOSTS[arguments.format](host, options)
    else:
        vm = planned(arguments, host)
        if vm is None:
            return Exit.FINDINGS
        made = VMS[arguments.format](vm, host, options)
    for remark in made.remarks:
        say(remark)
    emit(arguments, made.text)
    return Exit.OK
