"""Where the files of a VM are on the host, and which of them are its own.

The preparation script makes files as root and gives them to the VM's user: only below the directories here, and only what no other VM's name
leads to. What the script remembers for its undo is in directories beside them, which no name reaches (``state`` and ``kept`` of
wizard/export/prepare.sh).
"""

from __future__ import annotations

import posixpath

RUN = "/run/smmu-wizard"
"""A directory for each VM, which belongs to its user: the QMP socket."""
NO_SOCKET = "none"
"""What a profile says in the place of a socket's path where the VM is to have none."""
STATE = "/var/lib/smmu-wizard"
"""NAME_VARS.fd of each VM, or a directory with its name: the variables of its firmware."""
ROOTS = (RUN, f"{RUN}-state", STATE, f"{STATE}-state")

# What the program has, or had, in these directories beside the VMs.
RESERVED = frozenset({"undo", "memlock", "limits", "lock", "state", "iommu", "pages", "units"})

_ENDINGS = (".fd", ".raw", ".img", ".qcow2")


def socket_of(name: str) -> str:
    """Where the planner puts a VM's QMP socket."""
    return f"{RUN}/{name}/qmp"


def variables_of(name: str) -> str:
    """Where the planner puts a VM's variables."""
    return f"{STATE}/{name}_VARS.fd"


def plain(path: str) -> bool:
    """Whether an absolute path has no ``.``, ``..``, ``//`` or ``/`` at its end: it is then what it looks like, links aside."""
    return path.startswith("/") and not path.startswith("//") and posixpath.normpath(path) == path


def is_ours(path: str) -> bool:
    """Whether a path leads into the program's own directories, however it is written."""
    normal = "/" + posixpath.normpath(path).lstrip("/")
    # /var/run is a link to /run on every Linux of today.
    normal = normal.removeprefix("/var") if normal.startswith("/var/run/") else normal
    return any(normal == root or normal.startswith(f"{root}/") for root in ROOTS)


def own_socket(name: str, path: str) -> bool:
    """Whether a socket is in the VM's own directory, and directly: what is deeper its user could put a link in the place of."""
    return plain(path) and posixpath.dirname(path) == f"{RUN}/{name}"


def own_variables(name: str, path: str) -> bool:
    """Whether a file of variables is the VM's own."""
    return plain(path) and (path in {f"{STATE}/{name}_VARS{ending}" for ending in _ENDINGS} or path.startswith(f"{STATE}/{name}/"))
