"""What an answer rests on: facts that nobody read, or only assumed, by the scenarios whose outcome would be another one without them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto


class Fact(Enum):
    """A fact of the host that a scenario's outcome depends on."""

    STREAM = auto()  # which StreamID the function has
    GROUP = auto()  # who is in its IOMMU group, and which memory the firmware reserves for it
    NESTING = auto()
    CANWBS = auto()
    S2FWB = auto()
    FORCE_SYNC = auto()
    OAS = auto()
    SSIDSIZE = auto()
    PASID = auto()  # of the function
    ATS = auto()  # of SMMU, firmware and function
    RIL = auto()
    CMDQV = auto()
    PAGE_SIZE = auto()
    RELEASE = auto()  # of the kernel
    DMABUF = auto()  # whether VFIO makes dma-bufs of BARs
    BARS = auto()  # of the VM's functions


@dataclass(frozen=True, slots=True)
class Guess:
    """A fact that nobody measured, as it was taken: ``OAS 48``. ``of`` names a function, an SMMU or a VM; "" is the host."""

    fact: Fact
    text: str
    of: str = ""


ATTACHED = frozenset({Fact.STREAM, Fact.GROUP, Fact.PAGE_SIZE})
"""What it rests on that a function is attached to its VM."""
NESTED = ATTACHED | {Fact.OAS, Fact.NESTING, Fact.CANWBS, Fact.S2FWB, Fact.FORCE_SYNC}
"""The same behind a vSMMU."""
REGISTERS = frozenset({Fact.OAS, Fact.SSIDSIZE, Fact.RIL})
"""What QEMU compares."""


class Guesses:
    """Guesses by what they are of, in their order: a question is about few of them."""

    def __init__(self, guesses: Iterable[Guess]) -> None:
        self._of: dict[str, list[tuple[int, Guess]]] = {}
        for place, guess in enumerate(guesses):
            self._of.setdefault(guess.of, []).append((place, guess))
        self._told: dict[tuple[frozenset[Fact], tuple[str, ...]], tuple[str, ...]] = {}

    def told(self, facts: frozenset[Fact], of: Iterable[str]) -> tuple[str, ...]:
        """The guesses about these facts, of these things or of the host, each once."""
        asked = facts, tuple(of)
        if asked not in self._told:
            found = sorted((place, guess.text) for name in {"", *asked[1]} for place, guess in self._of.get(name, ()) if guess.fact in facts)
            self._told[asked] = tuple(dict.fromkeys(text for _, text in found))
        return self._told[asked]

    def about(self, fact: Fact, of: str) -> bool:
        """Whether this fact of a thing was guessed."""
        return any(guess.fact is fact for _, guess in self._of.get(of, ()))
