"""``watch --json`` under a million events: a real process that follows a log, its memory and processor time by the kernel's own count.

    python -m benchmarks.watch [--events 1000000] [--seconds 60]

Goals: an hour with a million events in 100 MiB and 5 % of one processor, and none lost but what the kernel says it left out. Once as fast as
they are read, in logs that rotate meanwhile; once at the pace of that hour (278 a second), for so many seconds. A record is what Linux prints
since 6.13: seven lines, of three SMMUs and eight functions, stage 1 and 2; a line in a hundred records says that some were not printed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.list import ROOT

HOUR = 3600
ROTATED = 64 << 20  # bytes of one log
SUPPRESSED, EACH = 7, 100
FUNCTIONS = [(smmu, f"0000:{bus:02x}:00.{function}", bus << 8 | function) for smmu, bus in ((0, 0x14), (1, 0x41), (2, 0x81)) for function in range(3)]


def record(number: int) -> str:
    """One of so many, as the kernel's log has it (arm_smmu_dump_event())."""
    smmu, address, stream = FUNCTIONS[number % 8]
    stage, iova, device = 1 + number // 8 % 2, 0x40_0000_0000 + (number << 12), f"arm-smmu-v3 arm-smmu-v3.{smmu}.auto: "
    stamp = f"[{1000 + number // 278:5}.{number % 278 * 3597:06}] "
    words = (0x10 | stream << 32, 0x0000_0208_0000_0000 | (stage == 2) << 39, iova, iova if stage == 2 else 0)
    text = ["event 0x10 received:", *(f"\t0x{word:016x}" for word in words)]
    text.append(f"event: F_TRANSLATION client: {address} sid: {stream:#x} ssid: 0x0 iova: {iova:#x} ipa: {words[3]:#x}")
    text.append(f'unpriv data read s{stage} "Input address caused fault" stag: 0x0')
    lines = [f"{stamp}{device}{line}\n" for line in text]
    if number % EACH == EACH - 1:
        lines.append(f"{stamp}arm_smmu_evtq_thread: {SUPPRESSED} callbacks suppressed\n")
    return "".join(lines)


class Watching:
    """A ``watch`` that follows a log, from when it says what it can see."""

    def __init__(self, scratch: Path) -> None:
        self.log, self.told = scratch / "kernel.log", scratch / "told"
        self.log.write_text("")
        words = [sys.executable, "-m", "wizard", "watch", "--json", "--no-qmp", "--log", str(self.log)]
        with self.told.open("wb") as out:
            self.process = subprocess.Popen(words, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.process.stderr.readline()
        self.read, self.counted = 0, Counter[str]()
        self.before = self.spent()

    def spent(self) -> float:
        """Seconds of processor time so far (utime and stime of proc_pid_stat(5))."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def most(self) -> float:
        """The most memory that it had, in MiB (VmHWM)."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) / 1024

    def count(self) -> tuple[int, int]:
        """Events and lost ones that it has told so far."""
        with self.told.open("rb") as lines:
            lines.seek(self.read)
            whole, end, _ = lines.read().rpartition(b"\n")
        self.read += len(whole) + len(end)
        for one in map(json.loads, whole.splitlines()):
            if one["source"] == "kernel":
                self.counted["lost" if one["kind"] == "lost" else "event"] += one.get("count", 1)
        return self.counted["event"], self.counted["lost"]

    def all_of(self, events: int) -> None:
        """Wait until so many were told, or nothing more comes."""
        quiet, before = 0, -1
        while quiet < 50 and (found := self.count()[0]) < events:
            quiet, before = quiet + 1 if found == before else 0, found
            time.sleep(0.1)

    def end(self) -> None:
        """As an administrator would."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


def fast(watching: Watching, events: int) -> float:
    """All at once, in logs that rotate; seconds that it took. A second rotation comes when the log before the first was read, as a day later."""
    began, number, rotated = time.monotonic(), 0, 0
    while number < events:
        written = 0
        with watching.log.open("a", encoding="utf-8") as at:
            while number < events and written < ROTATED:
                more = min(number + 1000, events)
                written += at.write("".join(map(record, range(number, more))))
                number = more
        if number < events:
            watching.all_of(rotated)
            rotated = number
            watching.log.rename(watching.log.with_suffix(".1"))
    watching.all_of(events)
    return time.monotonic() - began


def paced(watching: Watching, seconds: float) -> tuple[int, float]:
    """At the pace of a million in an hour: how many, and in how many seconds."""
    began, number = time.monotonic(), 0
    with watching.log.open("a", encoding="utf-8") as at:
        while (gone := time.monotonic() - began) < seconds:
            wanted = int(gone * 1_000_000 / HOUR)
            at.write("".join(map(record, range(number, wanted))))
            at.flush()
            number = max(number, wanted)
            time.sleep(0.02)
    spent = time.monotonic() - began
    return number, spent


def told(name: str, watching: Watching, events: int, seconds: float) -> None:
    """One line of figures, and what it lost."""
    cpu, memory = watching.spent() - watching.before, watching.most()
    found, lost = watching.count()
    print(f"  {name:<44} {seconds:7.1f} s {cpu:8.2f} s CPU {memory:6.1f} MiB")
    said = events // EACH * SUPPRESSED
    print(f"    told: {found} of {events} events; {lost} of {said} that the kernel did not print")


def main() -> None:
    """Both ways."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-") as scratch:
        print(f"{arguments.events} events (goal: 100 MiB, 5 % of one processor of an hour)")
        watching = Watching(Path(scratch))
        seconds = fast(watching, arguments.events)
        told("as fast as they are read, logs that rotate", watching, arguments.events, seconds)
        print(f"    that is {(watching.spent() - watching.before) / HOUR * 100:.2f} % of one processor of an hour, without its idle looks")
        watching.end()
        watching = Watching(Path(scratch))
        events, seconds = paced(watching, arguments.seconds)
        watching.all_of(events)
        cpu = watching.spent() - watching.before
        told("at the pace of a million in an hour", watching, events, seconds)
        print(f"    that is {cpu / seconds * 100:.2f} % of one processor")
        watching.end()


if __name__ == "__main__":
    main()
