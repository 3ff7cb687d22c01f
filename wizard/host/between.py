"""The way of a request from one function to another: within a device, below a switch, or over the root complex, and whether ACS sends it up.

PCI Express routes a memory request by its address: a switch port that finds it in the window of a neighbour hands it over, unless ACS P2P
Request Redirect at the port where it came in sends it up (PCIe 6.0, 6.12.1.1). What is redirected, or is in nobody's window, reaches the root
complex and so the SMMU. A translated request (ATS) is redirected too, unless that port has Direct Translated P2P on.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from wizard.host.model import Function, Host
from wizard.host.pci import extcaps
from wizard.host.pci.path import AcsStep, PciNode, acs_step

_DEPTH = 64  # bridges above one another: more than any hierarchy has
_UPSTREAM = 0x5  # a switch's upstream port (PCIe 6.0, 7.5.3.2)


class Way(StrEnum):
    """Through what two functions reach each other, the shortest first."""

    DEVICE = "within one device"
    SWITCH = "below one switch"
    BUS = "on one conventional bus"
    ROOT = "over the root complex"
    SMMUS = "over two root complexes with an SMMU each"
    SOCKETS = "over two NUMA nodes"


class Between(msgspec.Struct, frozen=True):
    """The way from ``first`` to ``second``, and back.

    ``path``: the bridges in between, from one to the other; ``common``: the lowest that both are below. ``redirected``: whether a request that
    carries the other's host address is sent up to the SMMU, in both directions; None where it could not be read. ``direct_translated``: whether
    translated requests may go straight.
    """

    first: str
    second: str
    way: Way
    path: tuple[str, ...]
    common: str | None
    redirected: bool | None
    direct_translated: bool | None


def above(functions: Mapping[str, Function], address: str) -> tuple[Function, ...]:
    """The function and the bridges above it, as far as they are known."""
    found = [functions[address]]
    while found[-1].parent is not None and (parent := functions.get(found[-1].parent)) is not None and len(found) < _DEPTH:
        found.append(parent)
    return tuple(found)


def between(functions: Mapping[str, Function], first: str, second: str) -> Between:
    """The way between two endpoints; ``KeyError`` for one that the host does not have."""
    ups = above(functions, first), above(functions, second)
    way, common = _way(*ups)
    legs = [up[: next((i for i, one in enumerate(up) if one is common), len(up))] for up in ups]
    # The port where the request of each leaves its own branch; within one device, or where it is above the other, the function itself.
    gates = [leg[-1] if leg and way is not Way.DEVICE else up[0] for leg, up in zip(legs, ups, strict=True)]
    steps = [_step(gate) for gate in gates]
    bridges = [str(one) for one in legs[0][1:]] + ([str(common)] if common is not None else []) + [str(one) for one in reversed(legs[1][1:])]
    return Between(
        first,
        second,
        way,
        tuple(bridges),
        None if common is None else str(common),
        _kept_apart(ups, way, steps),
        _all([None if step.enabled is None and step.missing is None else "DT" in (step.enabled or ()) for step in steps]),
    )


def wanted(first: Function, second: Function) -> bool:
    """Whether programs are likely to want peer to peer: a GPU or an accelerator with another one, a network card or an NVMe disk."""
    return (first.computes or second.computes) and first.exchanges and second.exchanges


def neighbours(host: Host, function: Function) -> list[Between]:
    """Those that a GPU or accelerator may exchange data with (of anything else: the GPUs and accelerators), the nearest first."""
    # As ``wanted`` says of each pair; the wizard asks it for each key, so nobody walks the whole host for it.
    among = () if not function.exchanges else host.exchanging if function.computes else host.computing
    found = [between(host.functions, str(function), str(other)) for other in among if other is not function]
    order = list(Way)
    return sorted(found, key=lambda one: (order.index(one.way), len(one.path)))


def _way(first: tuple[Function, ...], second: tuple[Function, ...]) -> tuple[Way, Function | None]:
    one, other = first[0], second[0]
    if _device(one) == _device(other):
        return Way.DEVICE, None if one.parent is None else first[1] if len(first) > 1 else None
    common = next((bridge for bridge in first[1:] if any(bridge is two for two in second[1:])), None)
    if common is not None:
        express = _node(common).express
        return (Way.BUS if (express is not None and express.is_pci_bridge) or common.config.is_express is False else Way.SWITCH), common
    if one.smmu is not None and other.smmu is not None and one.smmu != other.smmu:
        nodes = one.facts.numa_node, other.facts.numa_node
        return (Way.SOCKETS if min(nodes) >= 0 and nodes[0] != nodes[1] else Way.SMMUS), None
    return Way.ROOT, None


def _device(function: Function) -> tuple[str, ...]:
    """What functions of one device share; a VF belongs to the device of its PF, on whatever bus it shows."""
    return (function.facts.physfn or function.facts.address).rpartition(".")[:1]


def _node(function: Function) -> PciNode:
    return PciNode(function.address, None, function.config, function.is_vf)


def _step(function: Function) -> AcsStep:
    step = acs_step(_node(function))
    if step.applies or not function.is_vf:
        return step
    found = extcaps.acs(function.config)  # VFs have neighbours in their device, whatever their number says
    return msgspec.structs.replace(step, applies=True, missing=None if found is None else found.capable - found.enabled)


def _kept_apart(ups: tuple[tuple[Function, ...], tuple[Function, ...]], way: Way, steps: list[AcsStep]) -> bool | None:
    """By the kernel's groups where they tell, for it knows devices that have ACS under another name (quirks.c); else by the ports' own bits.

    Groups of two functions that differ are not enough: below a switch whose ports have no ACS each function is put together with the port above
    it, and the two ports still have a group each (pci_device_group() of Linux 7.2, seen on a recorded host).
    """
    (first, *_), (second, *_) = ups
    if way in (Way.SMMUS, Way.SOCKETS) or first.address.segment != second.address.segment:
        return True  # each root complex has its SMMU at its door to the rest of the chip
    grouped = [up[0].group for up in ups]
    if None not in grouped and grouped[0] != grouped[1] and all(bridge.group != up[0].group for up in ups for bridge in up[1:]):
        return True
    return False if way is Way.BUS else _all([_redirects(step) for step in steps])


def _redirects(step: AcsStep) -> bool | None:
    if step.missing is None:
        return None
    return "RR" not in step.missing


def _all(answers: list[bool | None]) -> bool | None:
    return False if False in answers else None if None in answers else True
