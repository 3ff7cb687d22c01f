"""Container Device Interface: functions that are on a vfio driver as devices that a container runtime can inject.

Specification and rules of version 1.1.0 (schema/, pkg/parser, specs-go/version.go). A device is its character device below
/dev/vfio/devices; /dev/iommu comes along with any of them. Annotations of devices are from 0.6.0 on, which is the version that is written.
"""

from __future__ import annotations

import json

from wizard.base.errors import UsageError
from wizard.fleet.consumers.common import Options, Output, offered, unknown_remark
from wizard.fleet.rows import Row
from wizard.host.model import Host

VERSION = "0.6.0"
KIND = "host-devices.local/vfio"


def spec(host: Host, options: Options) -> Output:
    """A file for /etc/cdi."""
    del options
    if host.facts.iommufd is False:
        raise UsageError(
            "This host has no /dev/iommu, which comes along with every device.", "Load iommufd (CONFIG_IOMMUFD), or record the host again."
        )
    found = offered(host)
    bare = [row.function for row in found.rows if not cdev(row)]
    found = found.without("that have no character device: bind them to their vfio driver first (smmu-wizard prepare)", bare)
    devices = [
        {
            "name": row.function,
            "annotations": {"smmu.host-devices.local/accel": row.accel.value} | ({"smmu.host-devices.local/smmu": row.smmu} if row.smmu else {}),
            "containerEdits": {"deviceNodes": [{"path": f"/dev/vfio/devices/{cdev(row)}", "permissions": "rw"}]},
        }
        for row in found.rows
    ]
    if not devices:
        raise UsageError("No function of this host can be given away and has a character device, and CDI takes no file without devices.", _BIND)
    value = {
        "cdiVersion": VERSION,
        "kind": KIND,
        "devices": devices,
        "containerEdits": {"deviceNodes": [{"path": "/dev/iommu", "permissions": "rw"}]},
    }
    said = ["The number of a character device changes when a function is bound again: write the file again then, also after a boot."]
    if host.facts.iommufd is None:
        said.append("Whether /dev/iommu is there was not read.")
    return Output(json.dumps(value, indent=2) + "\n", (*said, *found.remarks, *unknown_remark(found.rows)))


_BIND = "Bind them to their vfio driver first: smmu-wizard prepare FUNCTION… -o bind.sh."


def cdev(row: Row) -> str | None:
    """The one whose DMA an IOMMU holds: ``noiommu-vfioN`` (Linux 7.3) is never safe to give away."""
    return next((name for name in (row.vfio_device or "").split() if not name.startswith("noiommu-")), None)
