"""Which places of a snapshot hold what nobody measured."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache


class Assumed:
    """Paths of a snapshot that hold what nobody measured: ``*`` stands for any one part, and a path covers what is below it.

    ``covers(path)`` says whether a place of the snapshot was assumed.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = {tuple(_parts(path)) for path in paths}
        self.covers = cache(self._covers)

    def _covers(self, path: str) -> bool:
        if not self._paths:
            return False
        parts = _parts(path)
        return any(len(p) <= len(parts) and all(a in ("*", b) for a, b in zip(p, parts, strict=False)) for p in self._paths)


def _parts(path: str) -> list[str]:
    # Addresses and SMMU names have dots of their own.
    return re.findall(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|smmu3\.0x[0-9a-f]+|[^.]+", path)
