"""Who else has a function: targets that export its disks, storage that is reached through its ports, mediated devices, libvirt.

All of it stands in files, so that a live host, a copy of its tree and a sos report give the same. Who has its device files open is another
matter (``wizard.facts.opened``), and so are kernel users of RDMA, who stand in no file (``wizard.facts.rdma``).
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterator

from wizard.facts.functions import last_function
from wizard.facts.model import InUse
from wizard.facts.tree import Tree
from wizard.facts.usage import block_functions, net_file, net_functions

_NVMET = "sys/kernel/config/nvmet/subsystems"
_LIO = "sys/kernel/config/target/core"
_MDEV = "sys/bus/mdev/devices"
_DEFINED, _RUNNING, _NETWORKS = "etc/libvirt/qemu", "run/libvirt/qemu", "etc/libvirt/qemu/networks"


def of_tree(tree: Tree) -> list[InUse]:
    """Everything of this module."""
    return [*_exports(tree), *_storage(tree), *_mediated(tree), *_libvirt(tree)]


def _exports(tree: Tree) -> Iterator[InUse]:
    """Disks that the kernel gives to other hosts: they are opened within it, and show neither as a mount nor as a holder."""
    for subsystem in tree.names(_NVMET):
        # nvmet_ns_enable() opens the device, whatever its path was set to before; a passthru subsystem gives the whole controller.
        for number in tree.names(f"{_NVMET}/{subsystem}/namespaces"):
            space = f"{_NVMET}/{subsystem}/namespaces/{number}"
            if tree.text(f"{space}/enable") == "1":
                yield from _exported(tree, tree.text(f"{space}/device_path"), f"exports {{}} as NVMe namespace {number}", subsystem)
        if tree.text(f"{_NVMET}/{subsystem}/passthru/enable") == "1":
            yield from _exported(tree, tree.text(f"{_NVMET}/{subsystem}/passthru/device_path"), "passes {} through", subsystem)
    for backend in tree.names(_LIO):
        for name in tree.names(f"{_LIO}/{backend}") if backend.startswith(("iblock_", "pscsi_")) else ():
            if tree.text(f"{_LIO}/{backend}/{name}/enable") == "1":
                yield from _exported(tree, tree.text(f"{_LIO}/{backend}/{name}/udev_path"), "exports {} as a SCSI disk (LIO)", name)


def _exported(tree: Tree, path: str | None, detail: str, target: str) -> Iterator[InUse]:
    if not path or path == "(null)":
        return
    name = posixpath.basename(path)
    if name.startswith("dm-") or not tree.link(f"sys/class/block/{name}"):
        name = next((dm for dm in tree.names("sys/class/block") if _mapped(tree, dm) == name), name)
    found = block_functions(tree, name)
    controller = tree.link(f"sys/class/nvme/{name}")
    if controller and (address := last_function(controller)):
        found.add(address)
    for address in sorted(found):
        yield InUse(address=address, kind="export", detail=detail.format(path), owner=target)


def _mapped(tree: Tree, name: str) -> str | None:
    base = tree.link(f"sys/class/block/{name}") if name.startswith("dm-") else None
    return tree.text(f"{base}/dm/name") if base else None


def _storage(tree: Tree) -> Iterator[InUse]:
    """Sessions of iSCSI and NVMe-oF controllers by the port that they go through.

    An offload card, iSER and SRP have the SCSI host below the function itself; of software the kernel's main table of routes tells, which is
    where it looks too unless somebody made rules (ip rule).
    """
    for session in tree.names("sys/class/iscsi_session"):
        path = tree.link(f"sys/class/iscsi_session/{session}")
        if path is None:
            continue
        host = next((part for part in path.split("/") if re.fullmatch(r"host\d+", part)), "")
        peer = _iscsi_peer(tree, session.removeprefix("session"))
        detail = f"iSCSI session {session.removeprefix('session')} goes through it"
        yield from _through(tree, path, tree.text(f"{_at(tree, 'iscsi_host', host)}/netdev"), peer, detail, tree.text(f"{path}/targetname"))
    for name in tree.names("sys/class/nvme"):
        path = tree.link(f"sys/class/nvme/{name}")
        transport = tree.text(f"{path}/transport") if path else None
        if path is None or transport in (None, "pcie", "loop", "apple-nvme"):
            continue
        options = dict(part.split("=", 1) for part in (tree.text(f"{path}/address") or "").split(",") if "=" in part)
        detail = f"the NVMe-oF controller {name} ({transport}) is reached through it"
        if transport == "fc":
            # nn-0x…:pn-0x… of the local port (nvme_fc_init_ctrl())
            port = options.get("host_traddr", "").rpartition("pn-")[2]
            for host in tree.names("sys/class/fc_host") if port else ():
                if tree.text(f"{_at(tree, 'fc_host', host)}/port_name") == port:
                    yield from _through(tree, _at(tree, "fc_host", host), None, None, detail, None)
        else:
            yield from _through(tree, path, options.get("host_iface"), options.get("traddr"), detail, tree.text(f"{path}/subsysnqn"))


def _iscsi_peer(tree: Tree, number: str) -> str | None:
    for connection in tree.names("sys/class/iscsi_connection"):
        if connection.startswith(f"connection{number}:"):
            base = _at(tree, "iscsi_connection", connection)
            return tree.text(f"{base}/address") or tree.text(f"{base}/persistent_address")
    return None


def _at(tree: Tree, of_class: str, name: str) -> str:
    return tree.link(f"sys/class/{of_class}/{name}") or f"sys/class/{of_class}/{name}"


def _through(tree: Tree, path: str, interface: str | None, peer: str | None, detail: str, target: str | None) -> Iterator[InUse]:
    own = last_function(path)
    named = interface if interface and tree.link(f"sys/class/net/{interface}") else route_to(tree, peer)
    found = {own} if own else net_functions(tree, named) if named else set()
    for address in sorted(found):
        yield InUse(address=address, kind="storage", detail=detail, owner=target)


def route_to(tree: Tree, peer: str | None) -> str | None:
    """The interface that the main table of routes gives for an address, by the longest prefix; None where nothing leads there."""
    try:
        address = ipaddress.ip_address((peer or "").strip("[]"))
    except ValueError:
        return None
    best: tuple[int, str] | None = None
    for prefix, interface in _routes_of_4(tree) if address.version == 4 else _routes_of_6(tree):
        if address in prefix and (best is None or prefix.prefixlen > best[0]):
            best = prefix.prefixlen, interface
    return None if best is None or best[1] == "lo" else best[1]


def _routes_of_4(tree: Tree) -> Iterator[tuple[ipaddress.IPv4Network, str]]:
    # The numbers stand as the CPU holds them in memory order (fib_route_seq_show() prints a __be32): little-endian on these hosts.
    for line in net_file(tree, "proc/net/route").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and all(re.fullmatch("[0-9A-F]{8}", words[i]) for i in (1, 7)):
            there, mask = (int.from_bytes(bytes.fromhex(words[i])[::-1], "big") for i in (1, 7))
            yield ipaddress.IPv4Network((there & mask, mask.bit_count()), strict=False), words[0]


def _routes_of_6(tree: Tree) -> Iterator[tuple[ipaddress.IPv6Network, str]]:
    for line in net_file(tree, "proc/net/ipv6_route").splitlines():
        words = line.split()
        if len(words) == 10 and re.fullmatch("[0-9a-f]{32}", words[0]) and re.fullmatch("[0-9a-f]{2}", words[1]) and int(words[1], 16) <= 128:
            yield ipaddress.IPv6Network((int(words[0], 16), int(words[1], 16)), strict=False), words[9]


def _mediated(tree: Tree) -> Iterator[InUse]:
    """Mediated devices by their place below their parent; a vGPU of NVIDIA's newer drivers is a VF with a type written into it."""
    for uuid in tree.names(_MDEV):
        path = tree.link(f"{_MDEV}/{uuid}")
        if path and (address := last_function(path)):
            type_of = posixpath.basename(tree.target(f"{path}/mdev_type") or "") or "of no known type"
            yield InUse(address=address, kind="mdev", detail=f"mediated device {uuid} ({type_of}) stands on it")
    for address in tree.names("sys/bus/pci/drivers/nvidia"):
        place = tree.link(f"sys/bus/pci/devices/{address}") if ":" in address else None
        kind = tree.text(f"{place}/nvidia/current_vgpu_type") if place else None
        pf = tree.target(f"{place}/physfn") if kind not in (None, "", "0") else None
        if pf:
            yield InUse(address=posixpath.basename(pf), kind="mdev", detail=f"its VF {address} is a vGPU of type {kind} (current_vgpu_type)")


def _libvirt(tree: Tree) -> Iterator[InUse]:
    """Functions that libvirt has promised to a domain, or gives out of a network's pool (root's files)."""
    places = {place: [name for name in tree.names(place) if name.endswith(".xml")] for place in (_RUNNING, _DEFINED, _NETWORKS)}
    if not any(places.values()):
        return
    from wizard.facts.libvirtfiles import domain_of, pool_of  # loads a parser of XML

    running = set()
    for name in places[_RUNNING]:
        domain = domain_of(tree.data(f"{_RUNNING}/{name}") or b"")
        running.add(domain.name)
        yield from (InUse(address=one, kind="vm", detail="libvirt says that it runs", owner=domain.name) for one in domain.functions)
    for name in places[_DEFINED]:
        domain = domain_of(tree.data(f"{_DEFINED}/{name}") or b"")
        if domain.name not in running:
            yield from (InUse(address=one, kind="domain", detail="its definition names the function", owner=domain.name) for one in domain.functions)
    for name in places[_NETWORKS]:
        network = pool_of(tree.data(f"{_NETWORKS}/{name}") or b"")
        addresses = set(network.functions)
        for interface in network.interfaces:
            for pf in net_functions(tree, interface):
                addresses |= {pf, *_virtual_functions(tree, pf)}
        yield from (
            InUse(address=one, kind="pool", detail="libvirt gives it, or its VFs, to the domains of that network", owner=network.name)
            for one in sorted(addresses)
        )


def _virtual_functions(tree: Tree, pf: str) -> set[str]:
    base = tree.link(f"sys/bus/pci/devices/{pf}") or f"sys/bus/pci/devices/{pf}"
    links = (tree.target(f"{base}/{name}") for name in tree.names(base) if re.fullmatch(r"virtfn\d+", name))
    return {posixpath.basename(link) for link in links if link}
