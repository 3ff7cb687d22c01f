"""Who uses RDMA within the kernel, and which process does so outside it: NFS over RDMA, iSER, NVMe-oF, SMB Direct and others.

Only the kernel's own list tells (NETLINK_RDMA, nldev's RES_CM_ID and RES_QP; drivers/infiniband/core/nldev.c), in no file. ``rdma`` of
iproute2 prints it; a user of the kernel is in brackets by the name of its module.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from shutil import which

from wizard.facts.functions import last_function
from wizard.facts.model import InUse
from wizard.facts.tree import Tree

_TIME = 10  # seconds
_LINE = re.compile(r"^link ([\w.-]{1,64})/(?:\d+|-) (.*)$", re.MULTILINE)
_USER = re.compile(r"(?:^| )comm (?:\[([\w.-]{1,32})\]|([^\s\[][^\s]{0,31}))(?: |$)")
# What every device has for itself: GSI and SMI of ib_core, its own driver's for registrations, and IPoIB, which takes each port that there is
# (as a use, its interface counts). rdma_cm makes queue pairs for others, whom its cm_id names.
_OWN = re.compile(
    r"(?:ib_(?:core|cm|mad|uverbs|umad|ipoib)|iw_cm|rdma_cm|rdma_ucm)"
    r"|(?:mlx[45]|bnxt_re|hns|irdma|i40iw|efa|erdma|mana|qedr|ocrdma|cxgb4|iw_cxgb4|hfi1|siw|rdma_rxe|vmw_pvrdma)\w*"
)
_WHO = {
    "nvme_rdma": "NVMe-oF", "nvmet_rdma": "the NVMe target", "rpcrdma": "NFS over RDMA", "xprtrdma": "NFS over RDMA", "svcrdma": "the NFS server",
    "ib_iser": "iSER", "ib_isert": "the iSER target", "ib_srp": "SRP", "ib_srpt": "the SRP target",
    "cifs": "SMB Direct", "ksmbd": "the SMB server", "smc": "SMC-R", "rds_rdma": "RDS", "rtrs_client": "RNBD", "rtrs_server": "the RNBD server",
    "ko2iblnd": "Lustre",
}  # fmt: skip


def of_rdma(tree: Tree) -> list[InUse]:
    """Ask this host; empty where it has no RDMA device. What can't be asked is noted in ``unread``."""
    if not tree.names("sys/class/infiniband"):
        return []
    program = which("rdma", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        tree.unread["rdma resource show"] = "rdma (iproute2) is not installed"
        return []
    said = []
    for what in ("cm_id", "qp"):
        try:
            done = subprocess.run([program, "resource", "show", what], capture_output=True, text=True, errors="replace", timeout=_TIME, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            tree.unread["rdma resource show"] = f"{program} failed ({type(error).__name__})"
            continue
        said.append(done.stdout)
    return of_resources(tree, "\n".join(said))


def of_resources(tree: Tree, text: str) -> list[InUse]:
    """From what ``rdma resource show cm_id`` and ``qp`` print: who uses which function."""
    return [InUse(address=address, kind="rdma", detail=detail) for address, detail in dict.fromkeys(_users(tree, text))]


def _users(tree: Tree, text: str) -> Iterator[tuple[str, str]]:
    for device, rest in _LINE.findall(text):
        user = _USER.search(rest)
        path = tree.link(f"sys/class/infiniband/{device}")
        address = last_function(path) if path else None
        if user is None or address is None:
            continue
        module, process = user.groups()
        if process:
            pid = re.search(r"(?:^| )pid (\d+)", rest)
            yield address, f"process {pid[1] if pid else '?'} ({process}) uses RDMA on {device}"
        elif not _OWN.fullmatch(module):
            yield address, f"{_WHO.get(module, 'a part of the kernel')} ({module}) uses RDMA on {device}"
