"""A summary as a file of its own (``record --summary``): what a host computes of itself, so that a fleet's commands need not.

It is JSON beside a snapshot's: the entry of the host, by which program and form of summaries it was made, and a checksum over it. One
that another version made, or that was changed, is not believed: it is named, like any other file that can't be used.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from wizard import __version__
from wizard.base.errors import InputError
from wizard.base.json import out_of_bounds
from wizard.base.text import visible
from wizard.facts.model import SUMMARY, as_json
from wizard.fleet.machines import Traits
from wizard.fleet.summary import VERSION, HostSummary
from wizard.plan.properties import NAMES

_BEGIN = re.compile(rb'\s{0,64}\{\s{0,64}"format"\s{0,64}:\s{0,64}"' + SUMMARY.encode() + b'"')
_AGAIN = "Write it again on its host with `smmu-wizard record --summary -o FILE`, or name its snapshot."
_MOST = 1 << 63


class SummaryFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the file. ``summary`` and ``traits`` are lists, in the order of their fields."""

    format: str = SUMMARY
    version: int = VERSION  # of the form of a summary
    program: str = __version__
    host: str | None = None
    digest: str = ""  # of the state of the host that it was made of
    time: str = ""
    machine: str = ""
    traits: Traits = Traits()
    summary: HostSummary
    checksum: str = ""


class _Head(msgspec.Struct):
    version: int = 0
    program: str = ""


def is_summary(data: bytes) -> bool:
    """Whether bytes begin as one."""
    return _BEGIN.match(data) is not None


def write_summary(one: SummaryFile) -> bytes:
    """The file's bytes: the same host, the same bytes."""
    return as_json(msgspec.structs.replace(one, checksum=_checksum(one)))


def read_summary(data: bytes, name: str) -> SummaryFile:
    """The file; InputError where it is of another version, damaged, or no summary that any host has."""
    if wrong := out_of_bounds(data):
        raise InputError(f"{visible(name)} {wrong}.", _AGAIN)
    try:
        head = msgspec.json.decode(data, type=_Head)
        if (head.version, head.program) != (VERSION, __version__):
            raise InputError(
                f"{visible(name)} is a summary that smmu-wizard {visible(head.program) or '?'} made (form {head.version}), and this is "
                f"{__version__} (form {VERSION}): it may judge otherwise.",
                _AGAIN,
            )
        one = msgspec.json.decode(data, type=SummaryFile)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{visible(name)} is a damaged summary: {visible(str(error))}.", _AGAIN) from error
    if wrong := _impossible(one.summary):
        raise InputError(f"{visible(name)} is a damaged summary: {wrong}.", _AGAIN)
    if one.checksum != _checksum(one):
        raise InputError(f"{visible(name)} is a summary that was changed after it was written.", _AGAIN)
    return one


def _impossible(summary: HostSummary) -> str | None:
    """What can't be in a summary, and would be stumbled over."""
    numbers = [summary.memory, summary.cpus, summary.page_size, *(number for node in summary.nodes for number in node)]
    for smmu in summary.smmus:
        if len(smmu.offers) != len(NAMES):
            return f"{visible(smmu.name)} has {len(smmu.offers)} properties"
        numbers += [smmu.numa_node, smmu.cmdqv_functions]
        numbers += [number for offer in smmu.offers for number in (offer.richest, offer.assumed, offer.compared, offer.automatic)]
    for pool in summary.pools:
        if not -1 <= pool.smmu < len(summary.smmus):
            return f"a function behind SMMU {pool.smmu} of {len(summary.smmus)}"
        numbers += [pool.numa_node, pool.class_code]
    return "a number that no host can have" if any(number is not None and not -1 <= number < _MOST for number in numbers) else None


def _checksum(one: SummaryFile) -> str:
    told = msgspec.structs.replace(one, checksum="")
    try:
        return hashlib.blake2b(msgspec.msgpack.encode(told), digest_size=16).hexdigest()
    except OverflowError:
        return ""  # which no file has
