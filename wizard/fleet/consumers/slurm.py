"""Slurm: functions that are on a vfio driver as generic resources, and what a node's SMMUs supply as features.

gres.conf(5) and slurm.conf(5) of Slurm 25.05 and later. ``File`` has to stand with all functions of a name or with none, so those without a
character device are left out; at most 1024 of them count. Any function of a type is given for any other: a type is one vendor, device and
verdict.
"""

from __future__ import annotations

import re

from wizard.base.errors import UsageError
from wizard.base.text import visible
from wizard.fleet.consumers.cdi import cdev
from wizard.fleet.consumers.common import Options, Output, kind, needed, offered, unknown_remark
from wizard.fleet.engines.common import tell
from wizard.fleet.rows import Row
from wizard.fleet.summary import summary_of
from wizard.host.model import Host
from wizard.plan.properties import declared

NAME = "smmu"
MOST = 1024
NODE = re.compile(r"[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?")


def gres(host: Host, options: Options) -> Output:
    """gres.conf of the node; what belongs into slurm.conf stands above it as comments."""
    node = needed(options.node, "--node", "slurm", "the node's name in Slurm")
    if len(node) > 63 or not NODE.fullmatch(node):
        raise UsageError(f"{visible(node)} can't be the name of a Slurm node.", "Letters, digits, -, _ and dots inside, at most 63 characters.")
    found = offered(host)
    bare = [row.function for row in found.rows if not cdev(row)]
    found = found.without("that have no character device: bind them to their vfio driver first (smmu-wizard prepare)", bare)
    if len(found.rows) > MOST:
        raise UsageError(
            f"{len(found.rows)} functions, and Slurm takes {MOST} resources with files on a node.", "Bind fewer of them to vfio drivers."
        )
    types: dict[str, list[Row]] = {}
    for row in found.rows:
        types.setdefault(kind(row, "_"), []).append(row)
    counts = ",".join(f"{NAME}:{name}:{len(rows)}" for name, rows in types.items())
    lines = [
        "# Written by smmu-wizard. For slurm.conf, beside what the node's line has:",
        f"#   GresTypes={NAME}",
        f"#   NodeName={node}" + (f" Gres={counts}" if counts else "") + (f" Features={','.join(features)}" if (features := _features(host)) else ""),
    ]
    for name, rows in types.items():
        lines += [f"NodeName={node} Name={NAME} Type={name} File=/dev/vfio/devices/{cdev(row)}" for row in rows]
    said = (
        "The number of a character device changes when a function is bound again: write the file again then, also after a boot.",
        "Slurm can't be asked for functions of one SMMU: SMMU, IOMMU group and NUMA node are not in the file.",
        "A feature that is missing is not there, or not known.",
    )
    return Output("\n".join(lines) + "\n", (*said, *found.remarks, *unknown_remark(found.rows)))


def _features(host: Host) -> list[str]:
    """What every SMMU with a function that can be accelerated supplies, where it is known."""
    told = tell(summary_of(host))
    found = ["smmu_accel"] if told.accel == "yes" else []
    for name, value in told.properties.items():
        if value:
            found.append(f"smmu_{name}" if declared(name).switch else f"smmu_{name}_{value}")
    return found
