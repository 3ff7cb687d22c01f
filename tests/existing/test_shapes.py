"""Command lines as they are found in public: each assigned function is carried or named, whatever else is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wizard.existing.argv import read_argv
from wizard.existing.guest import Emulated, Fate, Function, Guest, Left
from wizard.existing.words import read_commands

_SHAPE = re.compile(r"^={9,}\n(?P<name>.*)\n(?P<head>(?:.*\n)*?)-{9,}\n(?P<text>(?:.*\n)*?)(?=^={9,}|\Z)", re.MULTILINE)
SHAPES = {match["name"]: match for match in _SHAPE.finditer((Path(__file__).parent / "data/shapes.txt").read_text())}


def _read(text: str) -> tuple[list[Guest], list[Left]]:
    found = read_commands(text.encode(), "vm.sh")
    guests = [read_argv(command, "vm.sh") for command in found.commands]
    return guests, [*found.left, *(left for guest in guests for left in guest.left)]


@pytest.mark.parametrize("name", SHAPES)
def test_functions_are_carried_or_named(name: str) -> None:
    head = SHAPES[name]["head"].splitlines()
    guests, left = _read(SHAPES[name]["text"])
    functions = [one.host or "?" for guest in guests for one in guest.of(Function) if isinstance(one, Function)]
    assert functions == head[0].removeprefix("functions:").split()
    told = [f"{one.name} {one.text} {one.said}" for one in left if one.fate is not Fate.PLAIN]
    for what in head[1:]:
        assert any(what.removeprefix("said: ") in one for one in told), (what, told)
    # A device that has no word in the model has its place there, and its words are kept.
    for guest in guests:
        for device in guest.of(Emulated):
            assert device.where is None or any(device.where == one.where for one in left), device


def test_there_are_enough() -> None:
    assert len(SHAPES) > 20
