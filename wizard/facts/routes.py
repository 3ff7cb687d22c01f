"""Routes of every table of the running kernel, by rtnetlink: /proc/net/route has those of the main table alone (include/uapi/linux/rtnetlink.h).

A host with several networks has tables of their own for them (``ip rule``): the one that carries a session need not be in main.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress

_NETLINK_ROUTE = 0
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_RTN_UNICAST = 1
_RTPROT_KERNEL = 2
_RTA_DST, _RTA_OIF, _RTA_MULTIPATH, _RTA_TABLE = 1, 4, 9, 15
_MAIN, _LOCAL = 254, 255
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ROUTE = struct.Struct("=8BI")  # rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_HOP = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, interface
_SECONDS = 5.0  # the kernel answers at once; a socket that stays silent must not hold up a recording
_PACKETS = 4096  # of 64 KiB: more routes than any host has
_ANSWER = 1 << 16


def uses() -> list[tuple[str, str, str]]:
    """(interface, "route", detail) for each interface that a route of any table leads out by; none where the kernel can't be asked.

    What the detail says does not change with each route that comes and goes.
    """
    found: dict[tuple[str, str, str], None] = {}
    with suppress(OSError):  # no rtnetlink here: /proc says what it can
        for family in (socket.AF_INET, socket.AF_INET6):
            word = "IPv6 route" if family == socket.AF_INET6 else "route"
            for table, default, interfaces in _dump(family):
                where = "" if table == _MAIN else f" in routing table {table}"
                for name in interfaces:
                    found[name, "route", f"{'default ' if default else ''}{word}{where} on {name}"] = None
    return [use for use in found if use[0] != "lo"]


def way_to(address: str) -> str | None:
    """The interface that packets to an address leave by, as the kernel's rules and tables have it; None where it has none, or can't be asked."""
    try:
        to = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    family = socket.AF_INET if to.version == 4 else socket.AF_INET6
    body = _ROUTE.pack(family, to.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + _ATTRIBUTE.pack(4 + len(to.packed), _RTA_DST) + to.packed
    with suppress(OSError):
        for message in _ask(body, _NLM_F_REQUEST):
            names = _route(message)[2]
            return next((name for name in names if name != "lo"), None)
    return None


def _dump(family: int) -> Iterator[tuple[int, bool, list[str]]]:
    for message in _ask(_ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), _NLM_F_REQUEST | _NLM_F_DUMP):
        fields = _ROUTE.unpack_from(message)
        table, default, interfaces = _route(message)
        # Those that the kernel makes by itself follow from addresses, and every interface that is up has one for fe80::/10.
        if fields[7] == _RTN_UNICAST and table != _LOCAL and fields[5] != _RTPROT_KERNEL:
            yield table, default, interfaces


def _ask(body: bytes, flags: int) -> Iterator[bytes]:
    """The bodies of the routes that the kernel answers with."""
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)) as asked:
        asked.settimeout(_SECONDS)
        asked.sendto(_HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, flags, 1, 0) + body, (0, 0))
        for _ in range(_PACKETS):
            packet = asked.recv(_ANSWER)
            while len(packet) >= _HEADER.size:
                length, kind, *_ = _HEADER.unpack_from(packet)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR) or not _HEADER.size <= length <= len(packet):
                    return
                if kind == _RTM_NEWROUTE and length >= _HEADER.size + _ROUTE.size:
                    yield packet[_HEADER.size : length]
                packet = packet[_aligned(length) :]
            if not flags & _NLM_F_DUMP:
                return


def _route(message: bytes) -> tuple[int, bool, list[str]]:
    """(table, whether it is the default route, names of the interfaces that it leads out by)."""
    fields = _ROUTE.unpack_from(message)
    table, default, numbers = fields[4], fields[1] == 0, []
    for kind, value in _attributes(message[_ROUTE.size :]):
        if kind == _RTA_TABLE and len(value) == 4:
            table = int.from_bytes(value, "little")
        elif kind == _RTA_OIF and len(value) == 4:
            numbers.append(int.from_bytes(value, "little"))
        elif kind == _RTA_MULTIPATH:
            while len(value) >= _HOP.size and (length := _HOP.unpack_from(value)[0]) >= _HOP.size:
                numbers.append(_HOP.unpack_from(value)[3])
                value = value[_aligned(length) :]
    return table, default, [name for number in numbers if (name := _name(number)) is not None]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return length + 3 & ~3


def _name(number: int) -> str | None:
    try:
        return socket.if_indextoname(number)
    except OSError:
        return None  # gone meanwhile
