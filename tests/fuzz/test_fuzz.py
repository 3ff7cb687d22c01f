"""A fixed budget of mutated inputs for every reader, the same ones for the same commit; ``scripts/fuzz`` has no end."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.engine import FOUND
from tests.fuzz.guard import MEMORY, Broken, guarded, peak
from tests.fuzz.mutate import mutate
from tests.fuzz.readers import READERS, answer
from tests.tools.cache import LEFT_OUT
from tests.tools.processes import LIMIT

BUDGET = 40.0  # seconds of processor time for all of them: a busy machine leaves no more out than a quiet one
EXAMPLES = 150

found = [pytest.param(path.parent.name, path.read_bytes(), id=f"{path.parent.name}-{path.name}") for path in sorted(FOUND.glob("*/*"))]


@pytest.mark.parametrize("name", READERS)
def test_mutated_inputs_end_as_documented(name: str, record_property: Callable[[str, object], None]) -> None:
    """No error but the documented ones, an end in time, no touch of the world."""
    reader = READERS[name]
    seeds = reader.seeds()
    end = time.process_time() + BUDGET / len(READERS)
    tried = left = 0

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def mutants(random: Random) -> None:
        nonlocal tried, left
        data = mutate(random.choice(seeds), random, reader.kind)  # drawn in any case: an example has to be the same whenever it is asked for
        if time.process_time() >= end:
            left += 1
            return
        tried += 1
        with guarded(tempfile.gettempdir()):
            answer(reader, data)

    mutants()
    assert tried
    if left:
        record_property(LEFT_OUT, f"{left} of {tried + left} mutated inputs of {name}: no time was left for them; scripts/fuzz {name} {EXAMPLES}")


@pytest.mark.parametrize("name", READERS)
@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda text: text.encode(errors="replace"))))
@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_noise_ends_as_documented(name: str, data: bytes) -> None:
    with guarded(tempfile.gettempdir()):
        answer(READERS[name], data)


@pytest.mark.parametrize("name", READERS)
def test_seeds_are_taken(name: str) -> None:
    """A mutation of what is refused would search nothing."""
    reader = READERS[name]
    for seed in reader.seeds()[:3]:
        with guarded(tempfile.gettempdir(), seconds=30):
            assert answer(reader, seed)


@pytest.mark.parametrize(("name", "data"), found)
def test_what_once_broke_a_reader_does_so_no_more(name: str, data: bytes) -> None:
    with guarded(tempfile.gettempdir()):
        answer(READERS[name], data)


def _forever() -> None:
    while True:
        pass


def test_the_guard_bites() -> None:
    """Else all of the above would prove nothing."""
    with tempfile.TemporaryDirectory() as inside:
        with pytest.raises(Broken, match="outside"), guarded(inside):
            open("/var/tmp/smmu-wizard-outside", "w")  # noqa: SIM115
        with pytest.raises(Broken, match=r"subprocess|posix_spawn|fork"), guarded(inside):
            subprocess.run(["true"], check=True, timeout=LIMIT)
        with pytest.raises(Broken, match="no end"), guarded(inside, seconds=0.2):
            _forever()
    assert peak() < MEMORY * 4  # of the whole test process; test_bounds.py measures readers by themselves
