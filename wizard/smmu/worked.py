"""What follows from the words of configuration structures alone, kept by these words.

It is no cache of the SMMU: a structure that has changed in memory has other words. Each key holds all that its answer was worked out from; the
features are those of one SMMU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from wizard.arch.cd import CD
from wizard.arch.ste import STE
from wizard.smmu.context import Context, Stage2, context_of, stage2_of
from wizard.smmu.ids import Features
from wizard.smmu.validity import World, cd_illegal, ste_illegal

Key = TypeVar("Key")
Answer = TypeVar("Answer")

MOST = 1024
"""Answers of each kind that are kept."""


class Worked:
    """Answers for one SMMU's features."""

    __slots__ = ("_cds", "_contexts", "_illegal_cds", "_illegal_stes", "_stage2", "_stes", "features")

    def __init__(self, features: Features) -> None:
        self.features = features
        self._stes: dict[tuple[int, ...], STE] = {}
        self._cds: dict[tuple[int, ...], CD] = {}
        self._illegal_stes: dict[int, str | None] = {}
        self._illegal_cds: dict[tuple[int, int, World], str | None] = {}
        self._stage2: dict[int, Stage2] = {}
        self._contexts: dict[tuple[int, int | None, World, bool], Context] = {}

    def ste(self, words: Sequence[int]) -> STE:
        """``STE.of_words``."""
        return _kept(self._stes, tuple(words), STE.of_words)

    def cd(self, words: Sequence[int]) -> CD:
        """``CD.of_words``."""
        return _kept(self._cds, tuple(words), CD.of_words)

    def ste_illegal(self, ste: STE) -> str | None:
        """``validity.ste_illegal``."""
        return _kept(self._illegal_stes, ste.value, lambda _: ste_illegal(ste, self.features))

    def cd_illegal(self, cd: CD, ste: STE, stream_world: World) -> str | None:
        """``validity.cd_illegal``."""
        return _kept(self._illegal_cds, (cd.value, ste.value, stream_world), lambda _: cd_illegal(cd, ste, self.features, stream_world))

    def stage2(self, ste: STE) -> Stage2:
        """``context.stage2_of``."""
        return _kept(self._stage2, ste.value, lambda _: stage2_of(ste, self.features))

    def context(self, ste: STE, cd: CD | None, stream_world: World, *, skip_stage1: bool) -> Context:
        """``context.context_of``."""
        key = ste.value, None if cd is None else cd.value, stream_world, skip_stage1
        return _kept(self._contexts, key, lambda _: context_of(ste, cd, stream_world, self.features, skip_stage1=skip_stage1))


def _kept(kept: dict[Key, Answer], key: Key, work: Callable[[Key], Answer]) -> Answer:
    """The answer for ``key``, worked out where it is not known."""
    if key in kept:
        return kept[key]
    answer = work(key)
    if len(kept) >= MOST:
        kept.clear()
    kept[key] = answer
    return answer
