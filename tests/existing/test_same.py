"""Command lines that say the same in other words are the same VM: order, JSON, spelling, and the source that they stand in."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from tests.existing.test_coverage import command_of
from tests.existing.test_samples import EXPECTED
from wizard.existing.argv import read_argv
from wizard.existing.guest import Fate, Guest
from wizard.existing.qemu.options import read_options
from wizard.existing.words import Command, Word, read_commands

_BOOLEANS = ("accel", "multifunction", "hugetlb", "prealloc")
_FREE = ("-object", "-blockdev", "-netdev", "-chardev")


def plain(vm: Guest) -> Any:
    """The VM without the places of its words, and without what no profile holds of it."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(one) for key, one in value.items() if key not in ("where", "places", "left", "source")}
        return [strip(one) for one in value] if isinstance(value, (list, tuple)) else value

    kept = sorted((one.fate, one.name, one.of or "") for one in vm.left if one.fate in (Fate.UNKNOWN, Fate.UNRESOLVED))
    return strip(msgspec.to_builtins(vm)), kept


def of(words: Sequence[str], program: str = "qemu-system-aarch64") -> Guest:
    command = Command(program=Word(text=program, source="x"), words=tuple(Word(text=word, source="x") for word in words))
    return read_argv(command, "x")


def pairs(words: Sequence[str]) -> list[list[str]]:
    """Each option with its value."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("-") and len(word) > 1:
            found.append([word])
        else:
            found[-1].append(word)
    return found


def flat(options: Sequence[Sequence[str]]) -> list[str]:
    return [word for option in options for word in option]


def shuffled(options: list[list[str]]) -> list[list[str]]:
    """Backends anywhere; everything else keeps its order."""
    free = [option for option in options if option[0] in _FREE]
    found = [option for option in options if option[0] not in _FREE]
    random = Random(len(options))
    for option in free:
        found.insert(random.randint(0, len(found)), option)
    return found


def as_json(options: list[list[str]]) -> list[list[str]]:
    """Values of -device and -object as JSON."""
    return [_json(option) if option[0] in ("-device", "-object") and not option[1].startswith("{") else option for option in options]


def _json(option: list[str]) -> list[str]:
    (read,) = read_options([Word(text=word, source="x") for word in option])[0]
    values: dict[str, Any] = {}
    for key in read.keys:
        value: Any = {"on": True, "off": False}.get(key.text, key.text) if key.name in _BOOLEANS else key.text
        value = int(value, 0) if key.name in ("bus_nr", "chassis", "rombar", "node", "host-nodes", "numa_node", "port") else value
        values[key.name] = [value] if key.name == "host-nodes" else value
    return [option[0], json.dumps(values)]


def as_keys(options: list[list[str]]) -> list[list[str]]:
    """Values of -device and -object as key=value."""

    def spelled(value: Any) -> str:
        return ("on" if value else "off") if isinstance(value, bool) else str(value).replace(",", ",,")

    found = []
    for option in options:
        if option[0] in ("-device", "-object", "-netdev") and option[1].startswith("{"):
            option = [option[0], ",".join(f"{key}={spelled(value)}" for key, value in json.loads(option[1]).items())]
        found.append(option)
    return found


def split_machine(options: list[list[str]]) -> list[list[str]]:
    """Each property of the machine in an option of its own, and some of them twice."""
    found = []
    for option in options:
        if option[0] in ("-machine", "-M"):
            parts = option[1].split(",")
            found += [["-M", parts[0]], *(["-machine", part] for part in parts[1:]), ["-machine", parts[-1]]]
        else:
            found.append(option)
    return found


def joined_machine(options: list[list[str]]) -> list[list[str]]:
    """All properties of the machine in one option, its type first."""
    every = sorted((option[1] for option in options if option[0] in ("-machine", "-M")), key=lambda text: "=" in text.split(",")[0])
    return [["-machine", ",".join(every)], *(option for option in options if option[0] not in ("-machine", "-M"))]


def other_sizes(options: list[list[str]]) -> list[list[str]]:
    """16G is 16384M; a plain number of -m is MiB."""

    def mib(match: re.Match[str]) -> str:
        return f"{match[1]}{int(match[2]) * 1024}M"

    return [[word if place == 0 else re.sub(r"((?:^|size=))([0-9]+)G\b", mib, word) for place, word in enumerate(option)] for option in options]


def long_addresses(options: list[list[str]]) -> list[list[str]]:
    return [[re.sub(r"host=(?=[0-9a-f]{2}:[0-9a-f]{2}\.)", "host=0000:", word) for word in option] for option in options]


CHANGES: list[Callable[[list[list[str]]], list[list[str]]]] = [
    shuffled, as_json, as_keys, split_machine, joined_machine, other_sizes, long_addresses,
]  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_other_words_for_the_same(name: str, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    words = [word.text for word in command_of(name).words if not word.holes]
    assert plain(of(flat(change(pairs(words))))) == plain(of(words))


@pytest.mark.parametrize("name", EXPECTED)
def test_the_source_is_of_no_importance(name: str) -> None:
    command = command_of(name)
    words = [command.program.text, *(word.text for word in command.words)]
    expected = plain(of(words[1:], words[0]))
    sources = {
        "x.sh": shlex.join(words),
        "array.sh": "a=(\n" + "\n".join(map(shlex.quote, words)) + '\n)\nexec "${a[@]}"',
        "/proc/1/cmdline": "\0".join(words) + "\0",
        "x.json": json.dumps(words, indent=1),
        "x.service": "[Service]\nExecStart=" + " \\\n  ".join(json.dumps(w).replace("%", "%%").replace("$", "$$") for w in words) + "\n",
        "x.log": "2026-10-30 07:12:44.120+0000: starting up libvirt version: 12.8.0, qemu version: 11.1.2\nLC_ALL=C \\\n"
        + " \\\n".join(map(shlex.quote, words)),
    }
    for source, text in sources.items():
        (found,) = read_commands(text.encode(), source).commands
        assert plain(read_argv(found, "x")) == expected, source
