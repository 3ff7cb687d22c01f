"""Sensible steps of what people set: sizes of memory, numbers of CPUs."""

from __future__ import annotations

LEAST_MEMORY = 512 << 20  # what a distribution's kernel and UEFI come up with


def _ladder(least: int) -> list[int]:
    # 1, 1.5, 2, 3, 4, 6, 8, 12 … times the least: two steps to twice as much.
    return [size for power in range(24) for size in (least << power, (least << power) * 3 // 2)]


_MEMORY = _ladder(LEAST_MEMORY)
_CPUS = [1, 2, 3, *_ladder(4)]


def _next(ladder: list[int], value: int, step: int) -> int:
    if step > 0:
        return next((one for one in ladder if one > value), value)
    return next((one for one in reversed(ladder) if one < value), value)


def next_memory(size: int, step: int) -> int:
    """Bytes, a step more or less; as they are where there is no such step."""
    return _next(_MEMORY, size, step)


def next_cpus(count: int, step: int) -> int:
    """CPUs, a step more or less."""
    return _next(_CPUS, count, step)


def memory_within(size: int) -> int | None:
    """The largest step that is not more than ``size`` bytes; None where the least is."""
    return next((one for one in reversed(_MEMORY) if one <= size), None)
