"""What a key costs in the wizard: 500 keys of a realistic mix on the list of functions, each timed to its first and to its last paint.

    python -m benchmarks.keys [--json] [--functions N] [--repeat N] [--before COMMIT] [--size WxH]

| what, at 8,192 functions | goal                          |
|--------------------------|-------------------------------|
| key to its first paint   | p95 16.7 ms                   |
| key to its last paint    | p50 20 ms, p99 50 ms          |

The mix, from a fixed seed: up and down, pages, both ends, marks, the filter with letters and its end, panes, tree and table, folds, and a
detail that is opened, walked, searched with n and N, and closed. A paint is what the app sends to the terminal; its escape sequences are made,
too, though nobody reads them. ``processor a key`` is the process's whole time over the number of keys: it says the same on a busy machine.
The build before the work plays the same keys in turn, in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.before import PROJECT, worktree

BEFORE = "d5377be"
"""The commit before a key's way to its paint was made shorter."""

QUIET = 0.06
"""Seconds without a paint after which a key is through."""


def mix(count: int, seed: int = 23) -> list[tuple[str, str]]:
    """So many keys: (what kind of thing one does, key)."""
    rng = random.Random(seed)
    words = ["nic", "vf", "0001:1", "82599", "ixgbe", "1563"]

    def walk() -> list[str]:
        return [rng.choice(("down", "down", "up"))] * rng.randint(3, 8)

    gestures = [
        (8, "walk", walk),
        (3, "page", lambda: [rng.choice(("pagedown", "pagedown", "pageup"))] * rng.randint(1, 4)),
        (2, "end", lambda: [rng.choice(("home", "end"))]),
        (3, "mark", lambda: ["space"] * rng.randint(1, 4)),
        (2, "filter", lambda: ["slash", *_typed(rng.choice(words)), "enter", *walk(), "escape"]),
        (2, "pane", lambda: ["tab", *["down"] * rng.randint(1, 4), "shift+tab"]),
        (1, "tree", lambda: ["t"]),
        (1, "fold", lambda: ["left", "right"]),
        (2, "detail", lambda: ["i", "down", "down", "slash", *_typed(rng.choice(("ats", "pasid", "e"))), "enter", "n", "n", "N", "escape", "escape"]),
    ]
    found: list[tuple[str, str]] = []
    while len(found) < count:
        _, name, make = rng.choices(gestures, [one[0] for one in gestures])[0]
        found += [(name, key) for key in make()]
    return found[:count]


def _typed(word: str) -> list[str]:
    return [{":": "colon"}.get(letter, letter) for letter in word]


async def play(path: Path, keys: Sequence[tuple[str, str]], size: tuple[int, int]) -> dict[str, Any]:
    """Press them; what each took. Of the build that stands in the directory where this runs."""
    from wizard.facts.snapshot import load
    from wizard.facts.source import Source, SourceKind
    from wizard.host.build import host_of
    from wizard.tui.app import WizardApp
    from wizard.tui.config import Config

    class Timed(WizardApp):
        """Notes when something was painted."""

        first = last = busy = 0.0
        paints = 0
        written = 0

        def _display(self, screen: Any, renderable: Any) -> None:
            super()._display(screen, renderable)
            if renderable is None or self._batch_count:
                return
            if hasattr(renderable, "render_segments"):  # what a terminal would get; a headless app makes none of it
                self.written += len(renderable.render_segments(self.console))
            self.last, self.busy = time.perf_counter(), time.process_time()
            self.first = self.first or self.last
            self.paints += 1

    app = Timed(host_of(load(str(path))), source=Source(SourceKind.REPLAY, path.name), config=Config(ascii=False))
    gc.collect()
    try:  # as each build does
        from wizard.cli.wizard import spare_collector
    except ImportError:
        gc.freeze()
    else:
        spare_collector()
    found: list[dict[str, Any]] = []
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.5)
        begun = time.process_time()
        for kind, key in keys:
            app.first = app.last = 0.0
            paints, written = app.paints, app.written
            start, busy, turn = time.perf_counter(), time.process_time(), app._turn
            app.simulate_key(key)
            while app._turn == turn or app._typing or app._typed or time.perf_counter() - max(start, app.last) < QUIET:
                await asyncio.sleep(QUIET / 3)
                if time.perf_counter() - start > 30:
                    raise RuntimeError(f"{key} is not through after 30 s")
            if app.first:
                times = {"first": 1000 * (app.first - start), "last": 1000 * (app.last - start), "processor": 1000 * (app.busy - busy)}
                found.append({"kind": kind, "key": key, **times, "paints": app.paints - paints, "written": app.written - written})
        whole = 1000 * (time.process_time() - begun)
    return {"whole": whole / len(keys), "keys": found}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so much of them does not pass (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100 * len(ordered)) // 10000) - 1)] if ordered else 0.0


def summary(run: dict[str, Any]) -> dict[str, float]:
    """The figures of one run, in milliseconds."""
    keys = run["keys"]
    found = {"processor a key": run["whole"], "processor to the last paint": sum(one["processor"] for one in keys) / len(keys)}
    for what in ("first", "last"):
        for share in (50, 95, 99):
            found[f"{what} p{share}"] = percentile([one[what] for one in keys], share)
    found["paints a key"] = sum(one["paints"] for one in keys) / len(keys)
    found["KiB a key"] = sum(one["written"] for one in keys) / len(keys) / 1024
    return found


def _run(tree: Path, path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.keys", "--play", str(path), "--keys", str(arguments.keys), "--size", arguments.size]
    done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", type=int, default=8192)
    parser.add_argument("--keys", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--size", default="120x40", help="of the terminal, 120x40 if not given")
    parser.add_argument("--before", metavar="COMMIT", default=BEFORE, help=f'the build to compare with, {BEFORE} if not given; "" for none')
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the host that is built, or take it from there")
    parser.add_argument("--kinds", action="store_true", help="the figures of each kind of key, too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--play", metavar="SNAPSHOT", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play is not None:
        wide, high = map(int, arguments.size.split("x"))
        print(json.dumps(asyncio.run(play(arguments.play, mix(arguments.keys), (wide, high)))))
        return
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as directory, worktree(arguments.before) as tree:
        from benchmarks.tui import snapshot

        kept = (arguments.keep or Path(directory)).absolute()
        path = kept / f"{arguments.functions}.json"
        path = path if path.exists() else snapshot(kept, arguments.functions)
        if tree is not None:
            shutil.copytree(PROJECT / "benchmarks", tree / "benchmarks", dirs_exist_ok=True)
        for _ in range(arguments.repeat):
            for side, where in (("now", PROJECT), ("before", tree)):
                if where is not None:
                    runs.setdefault(side, []).append(_run(where, path, arguments))
    # Of several runs the one that took least of the processor: the others were disturbed.
    best = {side: min(several, key=lambda run: float(run["whole"])) for side, several in runs.items()}
    results = {side: summary(run) for side, run in best.items()}
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{arguments.keys} keys at {arguments.functions} functions, {arguments.size}, ms (goal: first p95 16.7, last p50 20, p99 50)")
    for name in results["now"]:
        print(f"  {name:<28}" + "".join(f"  {side} {figures[name]:6.1f}" for side, figures in results.items()))
    for kind in sorted({one["kind"] for one in best["now"]["keys"]}) if arguments.kinds else ():
        print(f"  {kind}")
        for side, run in best.items():
            figures = summary({"whole": 0.0, "keys": [one for one in run["keys"] if one["kind"] == kind]})
            print(f"    {side:<7}" + "  ".join(f"{name} {value:.1f}" for name, value in figures.items() if name != "processor a key"))


if __name__ == "__main__":
    main()
