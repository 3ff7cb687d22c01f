"""A random choice of mutants against the tests of their room: what survives is a fault that nobody would notice.

    scripts/mutants                       60 of all rooms, from a new seed
    scripts/mutants 20 --room export --seed 7
    scripts/mutants --list --room nesting     how many there are, of which kind

Each runs in a copy of the tree, one after the other, with the tests of its room alone, and with a bound of time: what does not end was
noticed too. A survivor is killed by a test, or stands in equivalent.txt beside this file with the reason why nothing can tell it apart.
Status 1 where something survived.

A mutant costs little more than the test that notices it: pytest and what it needs are loaded once, and each mutant is a fork of that; what
was compiled of the tree is kept but for the file that changed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.mutants.mutate import Mutant, mutants
from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT

EQUIVALENT = Path(__file__).parent / "equivalent.txt"
BOUND = 900  # seconds for the tests of one mutant on a busy machine


LIBRARIES = (
    "pytest",
    "_pytest.assertion.rewrite",
    "hypothesis",
    "hypothesis.strategies",
    "jsonschema",
    "lxml.etree",
    "msgspec",
    "numpy",
    "psutil",
    "qemu.qmp",
    "tomlkit",
)


@dataclass(frozen=True)
class Room:
    """What is mutated, and the tests that have to notice, the quickest first; ``also``: those that only one file can matter to."""

    sources: str
    tests: tuple[str, ...]
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def tests_of(self, name: str) -> tuple[str, ...]:
        """The tests for a fault in one file."""
        return self.tests + self.also.get(Path(name).name, ())


def _in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{folder}/test_{name}.py" for name in names)


TURNS = "tests/export/test_prepare_runs.py::test_every_change_fails_once_and_undo_finishes"
ROOMS = {
    "rules": Room("wizard/plan/rules", _in(
        "plan", "rules", "variants", "one_cause", "places", "limits", "who_is_meant", "properties", "planner", "odd_devices", "invariants",
    )),
    "conditions": Room("wizard/host/conditions", _in(
        "host", "problems", "conditions", "device_tree", "verdicts", "not_read", "registers", "proportion", "less_is_unknown",
    )),
    "export": Room("wizard/export", _in("export", "golden", "prepare", "qmp", "hotplug", "libvirt", "openvmm", "virt_install", "qemu"), {
        # What is done at a turn that fails or is killed is the shell's, which is not mutated.
        "prepare.py": (*_in("export", "shellcheck", "prepare_runs"), "--deselect", TURNS),
        "qemu.py": _in("export", "shellcheck"),
    }),
    "nesting": Room("wizard/nesting", (
        *_in("nesting", "fields", "vste", "commands", "events", "iommufd", "qemu"), *_in("dryrun", "scenarios", "wrong_models"),
    )),
    "dryrun": Room("wizard/dryrun", _in(
        "dryrun", "fires", "layout", "scenarios", "wrong_plans", "report", "cost", "proof", "hotplug", "wrong_models", "broken_worlds", "command",
    )),
}  # fmt: skip


def all_of(room: Room) -> list[tuple[str, Mutant]]:
    """Every mutant of a room with the file that it is in, but for those that are known to be no fault."""
    known = equivalents()
    found = []
    for path in sorted((PROJECT / room.sources).rglob("*.py")):
        name = str(path.relative_to(PROJECT))
        for one in mutants(path.read_text(encoding="utf-8")):
            if (name, one.before, one.after) not in known:
                found.append((name, one))
    return found


def equivalents() -> dict[tuple[str, str, str], str]:
    """(file, line as it is, line as it becomes) -> why nothing can tell them apart. Four lines each, then an empty one."""
    found = {}
    text = "\n".join(line for line in EQUIVALENT.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    for block in text.strip().split("\n\n"):
        if block:
            name, before, after, reason = block.strip("\n").split("\n")
            found[name, before.removeprefix("- "), after.removeprefix("+ ")] = reason
    return found


def chosen(rooms: Sequence[str], count: int, seed: int) -> list[tuple[str, str, Mutant]]:
    """So many of each room in turn, and of its kinds alike: constants would crowd out everything else."""
    dice = random.Random(seed)
    heaps: dict[str, dict[str, list[tuple[str, Mutant]]]] = {}
    for room in rooms:
        for name, one in all_of(ROOMS[room]):
            heaps.setdefault(room, {}).setdefault(one.kind, []).append((name, one))
    picked: list[tuple[str, str, Mutant]] = []
    while len(picked) < count and any(heaps.values()):
        room = rooms[len(picked) % len(rooms)] if heaps.get(rooms[len(picked) % len(rooms)]) else next(room for room in heaps if heaps[room])
        kind = dice.choice(sorted(heaps[room]))
        heap = heaps[room][kind]
        name, one = heap.pop(dice.randrange(len(heap)))
        if not heap:
            del heaps[room][kind]
        picked.append((room, name, one))
    return picked


def copy_of_the_tree(place: Path) -> None:
    """What git knows of, as it stands in the work tree."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True, timeout=60).stdout.decode().split("\0")
    for name in filter(None, names):
        source, target = PROJECT / name, place / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def run(place: Path, *words: str) -> tuple[int | None, str]:
    """pytest in a fork of this process, on the tree at ``place``; its status, None where it ran out of time, and what it said."""
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _be_pytest(place, said.fileno(), words)
        try:
            status = _wait(child)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # and what the tests have started
        said.seek(0)
        return status, said.read().decode(errors="replace")


def _be_pytest(place: Path, said: int, words: Sequence[str]) -> None:
    """The child: it leads a group of its own, knows no module of the tree that it was forked from, and does not return."""
    status = 3
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "wizard")]:
            del sys.modules[name]
        os.chdir(place)
        os.environ |= {"PYTHONPATH": str(place), "HYPOTHESIS_STORAGE_DIRECTORY": str(place / ".hypothesis")}
        sys.path[:] = [str(place), *(one for one in sys.path if one not in ("", str(PROJECT)))]
        importlib.invalidate_caches()
        status = int(importlib.import_module("pytest").main(["-q", "-x", "-p", "no:cacheprovider", "-m", "not armhost and not qemu", *words]))
    finally:
        os._exit(status)


def _wait(child: int) -> int | None:
    process = psutil.Process(child)
    try:
        return process.wait(timeout=BOUND)
    except psutil.TimeoutExpired:
        os.killpg(child, signal.SIGKILL)
        process.wait(timeout=LIMIT)
        return None


def ends(place: Path, tests: Sequence[str]) -> str:
    """How the tests end: passed, killed, or out of time, which is noticed too."""
    status, said = run(place, *tests)
    if status is None:
        return "out of time"
    if status not in (0, 1, 2):  # 2: it does not even load
        sys.exit(f"mutants: pytest ended with {status}:\n{said[-2000:]}")
    return "passed" if status == 0 else "killed"


def fault(place: Path, name: str, one: Mutant, tests: Sequence[str]) -> str:
    """The end of one mutant; the file is as it was afterwards, so that what was compiled of it is good again."""
    path = place / name
    whole, times = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(one.in_place_of(whole), encoding="utf-8")
    try:
        return ends(place, tests)
    finally:
        path.write_text(whole, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def main() -> int:
    asked = argparse.ArgumentParser(prog="scripts/mutants", description="Mutants against the tests of their room.")
    asked.add_argument("count", nargs="?", type=int, default=60)
    asked.add_argument("--room", action="append", choices=list(ROOMS), help="only this one (may be repeated)")
    asked.add_argument("--seed", type=int, help="the same choice again")
    asked.add_argument("--list", action="store_true", help="run nothing; say how many there are")
    options = asked.parse_args()
    rooms = options.room or list(ROOMS)
    if options.list:
        for room in rooms:
            kinds = Counter(one.kind for _, one in all_of(ROOMS[room]))
            print(f"{room}: {sum(kinds.values())}: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the fork is ended too
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    survivors = 0
    for library in LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-mutants-") as scratch:
        place = Path(scratch)
        copy_of_the_tree(place)
        run(place, "--collect-only", *{test for room in rooms for test in ROOMS[room].tests})  # compiles
        sys.dont_write_bytecode = True
        for number, (room, name, one) in enumerate(chosen(rooms, options.count, seed), 1):
            begin = time.monotonic()
            end = fault(place, name, one, ROOMS[room].tests_of(name))
            print(
                f"{number}: {'SURVIVED' if end == 'passed' else end} in {time.monotonic() - begin:.0f} s: {name}:{one.line}: {one.kind}", flush=True
            )
            if end == "passed":
                survivors += 1
                print(f"- {one.before}\n+ {one.after}", flush=True)
    print(f"{survivors} survived", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
