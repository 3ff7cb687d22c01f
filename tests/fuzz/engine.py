"""``scripts/fuzz [READER] [RUNS] [--seed N]``: mutated inputs for one reader or all of them, as many as asked for.

With atheris installed (``--atheris``) it is coverage that guides; without, mutations at random, each from a number that repeats it.
What breaks a reader is written to ``tests/fuzz/found/READER/``, where ``test_found.py`` keeps asking it.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.guard import MEMORY, guarded, peak
from tests.fuzz.mutate import mutate
from tests.fuzz.readers import READERS, Reader, answer

FOUND = Path(__file__).parent / "found"


def one(reader: Reader, data: bytes) -> BaseException | None:
    """What broke, None when nothing did."""
    try:
        with guarded(tempfile.gettempdir()):
            answer(reader, data)
    except Exception as error:  # noqa: BLE001 (the search is for any of them)
        return error
    return None


def place(error: BaseException) -> str:
    """Where an error was raised: the last line of ours in its traceback."""
    every = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in every if "/wizard/" in frame.filename] or every
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}"


def keep(reader: Reader, data: bytes) -> Path:
    """Write an input down for the tests."""
    directory = FOUND / reader.name
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def search(reader: Reader, runs: int, seed: int, save: bool) -> int:
    """Different places that broke within a number of runs."""
    seeds, known = reader.seeds(), set[str]()
    started = time.monotonic()
    tried = 0
    try:
        for tried in range(runs):
            random = Random(f"{reader.name} {seed} {tried}")
            data = mutate(random.choice(seeds), random, reader.kind)
            error = one(reader, data)
            if error is not None and (where := place(error)) not in known:
                known.add(where)
                kept = keep(reader, data) if save else Path("(not kept)")
                print(f"{reader.name} {seed} {tried}: {where}: {str(error)[:300]!r}  {kept}", flush=True)
            if tried % 1000 == 999:
                gc.collect()
    except KeyboardInterrupt:
        print(f"{reader.name}: interrupted; {runs - tried} of {runs} inputs of seed {seed} were not tried", flush=True)
        raise
    rate = runs / max(time.monotonic() - started, 0.001)
    print(f"{reader.name}: {runs} inputs, {rate:.0f}/s, {len(known)} broke it; peak memory {peak() >> 20} MiB", flush=True)
    return len(known) + (peak() > MEMORY)


def guided(reader: Reader, runs: int) -> None:
    """Coverage-guided by atheris; it ends the process itself."""
    import atheris

    def target(data: bytes) -> None:
        error = one(reader, data)
        if error is not None:
            print(f"{place(error)}: kept as {keep(reader, data)}", file=sys.stderr)
            raise error

    def custom(data: bytes, _limit: int, seed: int) -> Any:
        return mutate(data or Random(seed).choice(reader.seeds()), Random(seed), reader.kind)

    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{reader.name}-"))
    for number, data in enumerate(reader.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-runs={runs}", "-max_len=262144", str(corpus)], target, custom_mutator=custom)
    atheris.Fuzz()


def main() -> int:
    """The status: 1 when something broke, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Mutated inputs for the readers.")
    parser.add_argument("reader", nargs="?", choices=[*READERS, "all"], default="all")
    parser.add_argument("runs", nargs="?", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats a run (default: the time)")
    parser.add_argument("--dry", action="store_true", help="do not keep what breaks a reader")
    parser.add_argument("--atheris", action="store_true", help="let coverage guide, with atheris (pip install atheris)")
    arguments = parser.parse_args()
    if arguments.atheris:
        if arguments.reader == "all":
            parser.error("atheris takes one reader at a time")
        guided(READERS[arguments.reader], arguments.runs)
        return 0
    readers = list(READERS.values()) if arguments.reader == "all" else [READERS[arguments.reader]]
    broke = 0
    for number, reader in enumerate(readers):
        try:
            broke += search(reader, arguments.runs, arguments.seed, not arguments.dry)
        except KeyboardInterrupt:
            if rest := [other.name for other in readers[number + 1 :]]:
                print(f"not tried at all: {', '.join(rest)}", flush=True)
            return 130
    return int(broke > 0)


if __name__ == "__main__":
    sys.exit(main())
