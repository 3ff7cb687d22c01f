"""Programs that look at a host's functions: each in its own format, held against its own schema or rules. ``engine FORMAT`` writes them.

One module for each consumer; a function takes the host (or a VM's plan) and the options, and gives a file and what has to be said beside it.
"""

from __future__ import annotations

from collections.abc import Callable

from wizard.fleet.consumers import cdi, dra, incus, nodefeature, nova, proxmox, slurm, textfile
from wizard.fleet.consumers.common import Options, Output
from wizard.host.model import Host
from wizard.plan.model import VmPlan

OF_HOST: dict[str, Callable[[Host, Options], Output]] = {
    "cdi": cdi.spec,
    "dra-slices": dra.slices,
    "nfd": nodefeature.feature_file,  # with --expires; without, it is an engine's
    "nfd-nodefeature": nodefeature.node_feature,
    "nova": nova.device_spec,
    "prometheus": textfile.textfile,
    "proxmox": proxmox.mappings,
    "slurm": slurm.gres,
}
OF_VM: dict[str, Callable[[VmPlan, Host, Options], Output]] = {
    "dra-claim": lambda vm, _, options: dra.claim(vm, options),
    "incus": incus.profile,
}

__all__ = ["OF_HOST", "OF_VM", "Options", "Output"]
