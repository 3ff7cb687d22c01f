"""Which places of a snapshot hold what nobody measured, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from wizard.facts.model import Assumption


class Assumed:
    """Paths of a snapshot that hold what nobody measured: ``*`` stands for any one part, and a path covers what is below it.

    ``covers(path)`` says whether a place of the snapshot was assumed.
    """

    def __init__(self, assumptions: Iterable[Assumption]) -> None:
        self._why = {tuple(_parts(assumption.path)): assumption.why for assumption in assumptions}
        # Asked several times of every function of a host, and most places are of one function: by their first two parts, few are left.
        self._near: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for known in self._why:
            self._near.setdefault(known[:2], []).append(known)
        self.covers = cache(self._covers)

    def __bool__(self) -> bool:
        return bool(self._why)

    def _covers(self, path: str) -> bool:
        if not self._why:
            return False
        parts = _parts(path)
        return any(len(known) <= len(parts) and _match(known, parts) for known in self._candidates(parts))

    def _candidates(self, parts: list[str]) -> Iterator[tuple[str, ...]]:
        first, second = parts[0], parts[1:2]
        for key in {(a, *b) for a in (first, "*") for b in ((), second, ("*",))}:
            yield from self._near.get(key, ())

    def below(self, path: str) -> dict[str, str]:
        """What is assumed of one thing, by field, with the reason; the field is ``*`` where the whole thing is."""
        parts = _parts(path)
        found: dict[str, str] = {}
        for known, why in self._why.items():
            if _match(known, parts):
                found[known[len(parts)] if len(known) > len(parts) else "*"] = why
        return dict(sorted(found.items()))


def _match(known: tuple[str, ...], parts: list[str]) -> bool:
    return all(a in ("*", b) for a, b in zip(known, parts, strict=False))


def _parts(path: str) -> list[str]:
    # Addresses and SMMU names have dots of their own.
    return re.findall(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|smmu3\.0x[0-9a-f]+|[^.]+", path)
