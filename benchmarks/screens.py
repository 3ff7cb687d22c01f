"""How every screen of the wizard grows: with the host's functions, and with the VMs that are planned.

    python -m benchmarks.screens [--json] [--functions N…] [--vms N…] [--screen NAME…]

Goal: no exponent above 1.1. For each screen and dialog two figures, in milliseconds of the processor (workers of the app count, too): to open it
until nothing is left to do, and for a key on it, the mean of several. The exponent is the slope of the logarithms between the two largest sizes,
where the last one takes 30 ms or more: below that it says what a screen costs that is the same for any host. Hosts have two VMs of four
functions; the VMs stand on a host of 1,000 functions with four functions each.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import convert
from msgspec import json as msgspec_json

from benchmarks.plan import request_of
from benchmarks.tui import snapshot
from wizard.cli.wizard import spare_collector
from wizard.facts.model import Facts
from wizard.facts.snapshot import decode
from wizard.facts.source import Source, SourceKind
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.tui.app import WizardApp
from wizard.tui.config import Config
from wizard.tui.state import Session

GOAL = 1.1
LEAST = 30.0  # ms below which no exponent is told
PER_VM = 4


class Look(NamedTuple):
    """A screen or dialog: the keys that open it from the host's, those on it, and those that leave it."""

    name: str
    opens: tuple[str, ...]
    keys: tuple[str, ...]
    leaves: tuple[str, ...]


_WALK = ("down", "down", "pagedown", "pageup", "end", "up", "home")
LOOKS = (
    Look("host", (), _WALK, ()),
    Look("host: table", ("t",), _WALK, ("t",)),
    Look("host: a filter", ("slash", "v"), ("f", "backspace", "down", "up"), ("escape",)),
    Look("host: a filter by verdict", ("slash", *"accel", "colon", "u"), ("n", "backspace"), ("escape",)),
    Look("host: marks", ("space",), ("space", "space", "end", "M", "home", "space"), ("escape",)),
    Look("host: a fold", ("left",), ("right", "left"), ("right",)),
    Look("host: map", ("m",), ("right", "down", "left", "end", "home"), ("m",)),
    Look("host: detail", ("end", "i"), ("down", "pagedown", "slash", "a", "t", "enter", "n"), ("escape", "escape", "home")),
    Look("host: IORT", ("I",), (*_WALK, "slash", "a", "0", "enter", "n", "N"), ("escape", "escape")),
    Look("host: first contact", ("p",), ("down", "up"), ("escape",)),
    Look("host: give", ("end", "a"), ("down", "up"), ("escape", "home")),
    Look("vms", ("2",), _WALK, ("1",)),
    Look("review", ("3",), (*_WALK, "slash", "m", "e", "enter", "n"), ("escape", "1")),
    Look("export", ("4",), _WALK, ("1",)),
    Look("topology", ("5",), (*_WALK, "right", "left"), ("1",)),
    Look("topology: one VM", ("5", "t"), (*_WALK, "v"), ("t", "1")),
    Look("doctor", ("6",), (*_WALK, "slash", "a", "enter", "n"), ("escape", "1")),
    Look("dry run", ("7",), (*_WALK, "slash", "m", "s", "enter", "n"), ("escape", "1")),
    Look("rehearse", ("8",), _WALK, ("1",)),
    Look("explain", ("9",), _WALK, ("1",)),
    Look("running", ("0",), _WALK, ("1",)),
    Look("help", ("question_mark",), ("down", "pagedown", "slash", "a", "enter", "n"), ("escape", "escape")),
)


def host_from(path: Path) -> Host:
    """A host of a snapshot of any size: the bound of what strangers give is no matter here."""
    return host_of(convert(msgspec_json.decode(path.read_bytes()), Facts) if path.stat().st_size > 64 << 20 else decode(path.read_bytes(), path.name))


def session_of(host: Host, vms: int) -> Session:
    """So many VMs with the first VFs of the host."""
    return Session(vms=request_of(host.facts, vms, PER_VM).vms, current="vm0")


class Watched(WizardApp):
    """Notes when something was painted."""

    painted = 0.0

    def _display(self, screen: Any, renderable: Any) -> None:
        super()._display(screen, renderable)
        if renderable is not None:
            self.painted = time.perf_counter()


async def _quiet(app: Watched) -> None:
    """Until no key is on its way, no worker at work, and nothing was painted for a while."""
    since = time.perf_counter()
    while app._typing or app._typed or any(worker.is_running for worker in app.workers) or time.perf_counter() - max(since, app.painted) < 0.08:
        await asyncio.sleep(0.02)


async def measure(host: Host, vms: int, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Milliseconds of the processor: (to open, for a key) of each."""
    found: dict[str, tuple[float, float]] = {}
    app = Watched(host, source=Source(SourceKind.REPLAY, "host.json"), config=Config(ascii=False), session=session_of(host, vms))

    async def press(keys: Sequence[str]) -> float:
        begun = time.process_time()
        for key in keys:
            turn = app._turn
            app.simulate_key(key)
            while app._turn == turn:
                await asyncio.sleep(0.002)
            await _quiet(app)
        return 1000 * (time.process_time() - begun)

    gc.collect()
    spare_collector()
    begun = time.process_time()
    async with app.run_test(size=(120, 40)):
        await _quiet(app)
        opened = 1000 * (time.process_time() - begun)
        await asyncio.sleep(1.0)  # what is prepared behind the first screen is no screen's
        await _quiet(app)
        for look in LOOKS:
            if names and not any(look.name.startswith(name) for name in names):
                continue
            opens = await press(look.opens) if look.opens else opened
            found[look.name] = (opens, await press(look.keys) / len(look.keys))
            await press(look.leaves)
            if len(app.screen_stack) > 1 or app.current_mode != "host":
                raise RuntimeError(f"{look.name} was not left: {app.screen}")
    gc.unfreeze()
    return found


def exponent(sizes: Sequence[int], times: Sequence[float]) -> float | None:
    """The slope between the two largest; None where it says nothing."""
    if len(sizes) < 2 or times[-1] < LEAST:
        return None
    return math.log(times[-1] / max(times[-2], 0.1)) / math.log(sizes[-1] / sizes[-2])


def grown(hosts: dict[int, dict[str, tuple[float, float]]]) -> list[dict[str, Any]]:
    """A row for each screen: the figures by size, and both exponents."""
    sizes = sorted(hosts)
    rows = []
    for name in hosts[sizes[0]]:
        row: dict[str, Any] = {"screen": name}
        for place, what in enumerate(("open", "key")):
            times = [hosts[size][name][place] for size in sizes]
            row |= {what: [round(one, 1) for one in times], f"{what} exponent": exponent(sizes, times)}
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", nargs="*", type=int, default=[1000, 8192, 65536])
    parser.add_argument("--vms", nargs="*", type=int, default=[1, 8, 64])
    parser.add_argument("--screen", nargs="*", default=[], help="only those whose name begins so")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the hosts that are built, or take them from there")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        kept = (arguments.keep or Path(directory)).absolute()
        os.chdir(directory)  # the export's screen looks at the files that are there

        def host(count: int) -> Host:
            path = kept / f"{count}.json"
            return host_from(path if path.exists() else snapshot(kept, count))

        if arguments.functions:
            results["functions"] = grown({count: asyncio.run(measure(host(count), 2, arguments.screen)) for count in arguments.functions})
        if arguments.vms:
            results["VMs"] = grown({count: asyncio.run(measure(host(1000), count, arguments.screen)) for count in arguments.vms})
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    worst = 0.0
    for what, rows in results.items():
        sizes = arguments.functions if what == "functions" else arguments.vms
        print(f"{'processor, ms':<26} open at {', '.join(map(str, sizes))} {what}: exponent | a key: exponent")
        for row in rows:
            shown = []
            for one in ("open", "key"):
                slope = row[f"{one} exponent"]
                worst = max(worst, slope or 0.0)
                shown.append("".join(f"{time:9.1f}" for time in row[one]) + (f"  {slope:5.2f}" if slope is not None else "      -"))
            print(f"{row['screen']:<26}{' |'.join(shown)}")
    print(f"the largest exponent: {worst:.2f} (goal {GOAL})")


if __name__ == "__main__":
    main()
