"""A random choice of mutants against the tests of their room: what survives is a fault that nobody would notice.

    scripts/mutants                       60 of all rooms, from a new seed
    scripts/mutants 20 --room export --seed 7
    scripts/mutants --list --room nesting     how many there are, of which kind

Each runs in a copy of the tree, one after the other, with the tests of its room alone, and with a bound of time: what does not end was
noticed too. A survivor is killed by a test, or stands in equivalent.txt beside this file with the reason why nothing can tell it apart.
Status 1 where something survived.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutate import Mutant, mutants
from tests.tools.cache import PROJECT

EQUIVALENT = Path(__file__).parent / "equivalent.txt"
BOUND = 900  # seconds for the tests of one mutant on a busy machine


@dataclass(frozen=True)
class Room:
    """What is mutated, and the tests that have to notice, the quickest first."""

    sources: str
    tests: tuple[str, ...]


ROOMS = {
    "rules": Room("wizard/plan/rules", (
        "tests/plan/test_rules.py", "tests/plan/test_one_cause.py", "tests/plan/test_places.py", "tests/plan/test_limits.py", "tests/plan",
    )),
    "conditions": Room("wizard/host/conditions", (
        "tests/host/test_problems.py", "tests/host/test_conditions.py", "tests/host/test_verdicts.py", "tests/host/test_not_read.py",
        "tests/host/test_less_is_unknown.py", "tests/host/test_registers.py", "tests/host/test_proportion.py",
    )),
    "export": Room("wizard/export", (
        "tests/export/test_golden.py", "tests/export/test_prepare.py", "tests/export/test_qmp.py", "tests/export/test_libvirt.py", "tests/export",
    )),
    "nesting": Room("wizard/nesting", ("tests/nesting", "tests/dryrun/test_scenarios.py")),
    "dryrun": Room("wizard/dryrun", ("tests/dryrun",)),
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


def ends(place: Path, tests: Sequence[str]) -> str:
    """How the tests end: passed, killed, or out of time, which is noticed too."""
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not armhost and not qemu", *dict.fromkeys(tests)]
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(place / ".hypothesis")}
    try:
        done = subprocess.run(
            words, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BOUND, check=False
        )
    except subprocess.TimeoutExpired:
        return "out of time"
    if done.returncode not in (0, 1, 2):  # 2: it does not even load
        sys.exit(f"mutants: pytest ended with {done.returncode}:\n{done.stdout.decode()[-2000:]}")
    return "passed" if done.returncode == 0 else "killed"


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
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-mutants-") as scratch:
        place = Path(scratch)
        copy_of_the_tree(place)
        for number, (room, name, one) in enumerate(chosen(rooms, options.count, seed), 1):
            begin, path = time.monotonic(), place / name
            whole = path.read_text(encoding="utf-8")
            path.write_text(one.source, encoding="utf-8")
            try:
                end = ends(place, ROOMS[room].tests)
            finally:
                path.write_text(whole, encoding="utf-8")
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
