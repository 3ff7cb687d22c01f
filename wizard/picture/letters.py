"""One letter and one colour for each VM, the same in every picture."""

from __future__ import annotations

from collections.abc import Iterable

COLOURS = 6
"""Colours that a reader tells apart on dark and on light ground; a seventh VM takes the first again, with a letter of its own."""

INK = {"c0": "#006a80", "c1": "#8a1f7a", "c2": "#7a5c00", "c3": "#1f6b2b", "c4": "#1c4fa0", "c5": "#9c2330"}
"""The same colours on white: each has a contrast of at least 4.5 to 1 with it (WCAG 2.2, 1.4.3)."""


def letter(number: int) -> str:
    """A, B, … Z, AA, AB, …"""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(65 + rest) + text
    return text


def colour(number: int) -> str:
    """The role of a VM's colour: ``c0`` to ``c5``."""
    return f"c{number % COLOURS}"


def letters(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """VM -> (letter, role of its colour), in the order of the VMs."""
    return {name: (letter(number), colour(number)) for number, name in enumerate(names)}
