"""One letter and one colour for each VM, the same in every picture."""

from __future__ import annotations

from collections.abc import Iterable

COLOURS = 6
"""Colours that a reader tells apart on dark and on light ground; a seventh VM takes the first again, with a letter of its own."""


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
