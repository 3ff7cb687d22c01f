"""The wizard's figures: from exec to the first usable screen, from a key to its repaint, memory.

    python -m benchmarks.tui [--json] [--repeat N] [FUNCTIONS…]

| what                                              | goal                              |
|---------------------------------------------------|-----------------------------------|
| exec to first usable screen                       | 700 ms at 1,000 functions, 1 s at 8,192 |
| a key to its repaint, measured inside the app     | 50 ms at 8,192 functions          |
| memory with the wizard open                       | 250 MiB at 8,192 functions        |

Hosts are built by benchmarks.big_host. The first figure is taken from outside, on a pseudo-terminal of 80x24: the screen is usable when the last row
of the table is drawn. Beside the time on the clock stands that of the processor, for machines that have other things to do.
Medians; nothing here is asserted, the goals are printed beside what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import json
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

from benchmarks.big_host import facts_of
from wizard.cli.wizard import spare_collector
from wizard.facts.snapshot import load
from wizard.facts.source import Source, SourceKind
from wizard.host.build import host_of
from wizard.tui.app import WizardApp
from wizard.tui.config import Config

KEYS = {
    "down": ["down"] * 10,
    "page down": ["pagedown"] * 10,
    "last and first": ["end", "home"] * 4,
    "mark": ["space"] * 6,
    "tree and table": ["t"] * 4,
    "a letter of the filter": ["slash", "n", "i", "c", "backspace", "backspace", "backspace"],
}


def snapshot(directory: Path, count: int) -> Path:
    """A snapshot of a host with so many functions."""
    from wizard.facts.snapshot import encode

    path = directory / f"{count}.json"
    path.write_bytes(encode(facts_of(directory / f"tree{count}", count)))
    return path


def first_screen(path: Path, goal: bytes) -> tuple[float, float, int]:
    """(seconds until the screen shows ``goal``, seconds of processor that took, KiB that the process then has had at most)."""
    start = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8")
        os.execv(sys.executable, [sys.executable, "-m", "wizard", "--replay", str(path)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen = b""
    while goal not in seen:
        if not select.select([terminal], [], [], 30)[0]:
            raise RuntimeError(f"no screen within 30 s: {seen[-500:]!r}")
        seen += os.read(terminal, 65536)
    took = time.perf_counter() - start
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    busy = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    time.sleep(1.0)  # what is done behind the first screen counts as memory, too
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
    return took, busy, memory


class Timed(WizardApp):
    """Notes when something was painted."""

    painted = 0.0
    busy = 0.0

    def _display(self, screen: Any, renderable: Any) -> None:
        super()._display(screen, renderable)
        self.painted = time.perf_counter()
        self.busy = time.process_time()


async def key_times(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds, and milliseconds of processor, from a key to the last paint that it causes, by kind of key."""
    app = Timed(host_of(load(str(path))), source=Source(SourceKind.REPLAY, path.name), config=Config(ascii=False))
    found: dict[str, list[tuple[float, float]]] = {}
    gc.collect()
    spare_collector()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(1.0)
        for name, keys in KEYS.items():
            times = []
            for key in keys:
                start, busy = time.perf_counter(), time.process_time()
                app.simulate_key(key)
                # The app is idle again when nothing was painted for 60 ms.
                while time.perf_counter() - max(start, app.painted) < 0.06:
                    await asyncio.sleep(0.002)
                if app.painted > start:
                    times.append((1000 * (app.painted - start), 1000 * (app.busy - busy)))
            found[name] = times
    return found


def _summary(times: list[tuple[float, float]]) -> dict[str, float]:
    return {
        "median": round(statistics.median(took for took, _ in times), 1),
        "worst": round(max(took for took, _ in times), 1),
        "processor": round(statistics.median(busy for _, busy in times), 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", nargs="*", type=int, default=[1000, 8192])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the hosts that are built, or take them from there")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for count in arguments.functions:
            kept = arguments.keep or Path(directory)
            path = kept / f"{count}.json"
            path = path if path.exists() else snapshot(kept, count)
            runs = [first_screen(path, b"segment") for _ in range(arguments.repeat)]
            keys = asyncio.run(key_times(path))
            results[str(count)] = {
                "first_screen_ms": round(1000 * statistics.median(took for took, _, _ in runs)),
                "first_screen_processor_ms": round(1000 * statistics.median(busy for _, busy, _ in runs)),
                "memory_mib": round(max(memory for _, _, memory in runs) / 1024),
                "keys_ms": {name: _summary(times) for name, times in keys.items() if times},
            }
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    for count, one in results.items():
        goal = 700 if int(count) <= 1000 else 1000
        screen, busy, memory = (one[name] for name in ("first_screen_ms", "first_screen_processor_ms", "memory_mib"))
        print(f"{count} functions: first screen {screen} ms (goal {goal}), processor {busy} ms, memory {memory} MiB (goal 250 at 8,192)")
        for name, times in one["keys_ms"].items():
            shown = f"{times['median']:>6} ms, worst {times['worst']} ms, processor {times['processor']} ms"
            print(f"  {name:<24} {shown} (goal 50 at 8,192)")


if __name__ == "__main__":
    main()
