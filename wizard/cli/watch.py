"""``watch``: VMs, their functions and the events of SMMUs, as they change."""

from __future__ import annotations

import argparse
import functools
import math
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.cli.output import print_lines, say

if TYPE_CHECKING:
    from wizard.host.model import Host
    from wizard.running.watch.prometheus import Textfile

_REWRITE = 15.0  # seconds between two versions of the textfile when nothing happens


def run_watch(arguments: argparse.Namespace) -> int:
    """Tell what happens until it is interrupted, or for so many seconds."""
    from wizard.cli.planning import read_vms
    from wizard.running.verify import World
    from wizard.running.watch.places import Places
    from wizard.running.watch.records import line
    from wizard.running.watch.watching import Watch

    if arguments.seconds is not None and arguments.seconds <= 0:
        raise UsageError("--for takes seconds, more than 0.", "Leave it away to watch until it is interrupted.")
    watch = Watch(
        World(), log=Path(arguments.log) if arguments.log else None, take_qmp=not arguments.no_qmp, names=arguments.vms,
        function=lambda device, stream: _streams().get((device, stream)), smmu=lambda device: _names().get(device, device),
        places=Places(_host, read_vms(arguments.profile)), tracepoints=_tracepoints(arguments.tracepoints),
    )  # fmt: skip
    end = time.monotonic() + arguments.seconds if arguments.seconds is not None else math.inf
    stopped = threading.Event()
    # A service is ended by SIGTERM: what was switched on is switched off all the same.
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    textfile = _textfile(arguments.prometheus)
    try:
        for sentence in watch.begin():
            say(sentence)
        written = 0.0
        for batch in watch.records(lambda: stopped.is_set() or time.monotonic() >= end):
            if arguments.json:
                sys.stdout.writelines(msgspec.json.encode(one).decode() + "\n" for one in batch)
            elif batch and textfile is None:
                print_lines(map(line, batch))
            sys.stdout.flush()
            if textfile is not None:
                textfile.count(batch)
                if batch or time.monotonic() - written >= _REWRITE:
                    textfile.write(watch.look)
                    written = time.monotonic()
    finally:
        watch.close()
        signal.signal(signal.SIGTERM, before)
    return Exit.OK


def _tracepoints(asked: str | None) -> tuple[str, ...]:
    from wizard.running.watch.tracepoints import DOMAINS, MAPPINGS

    return () if asked is None else (*DOMAINS, *MAPPINGS) if asked == "all" else DOMAINS


def _textfile(path: str | None) -> Textfile | None:
    if path is None:
        return None
    from wizard.host.model import Accel
    from wizard.running.watch.prometheus import Textfile

    host = _host()
    below = {address: function for address, function in host.functions.items() if function.smmu is not None}
    verdicts = Counter((function.smmu or "", host.verdicts[address].accel.value) for address, function in below.items())
    able = (function for address, function in below.items() if host.verdicts[address].accel is Accel.YES)
    busy = {use.address for use in host.facts.in_use}
    free = Counter(function.smmu or "" for function in able if str(function.address) not in busy)
    return Textfile(Path(path), verdicts, free)


@functools.cache
def _host() -> Host:
    """This host, read once and only when something has to be looked up in it."""
    from wizard.facts.source import LIVE
    from wizard.host.opening import open_host

    return open_host(LIVE)


@functools.cache
def _names() -> dict[str, str]:
    from wizard.host.log.findings import smmu_names

    return smmu_names(_host())


@functools.cache
def _streams() -> dict[tuple[str, int], str]:
    """Device of an SMMU in the log and StreamID -> function; for kernels before 6.13, which do not name it."""
    devices: dict[str, str] = {name: device for device, name in _names().items()}
    return {
        (devices.get(function.smmu or "", function.smmu or ""), stream): str(function.address)
        for function in _host().functions.values()
        for stream in function.stream_ids
    }
