"""The declaration of each property against the real QEMU, and that everything that names one follows from it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import fields

from wizard.plan.properties import DECLARED, NAMES, Declaration, Properties, Resolved, declared


def test_what_is_asked_and_what_comes_to_be_have_a_field_for_each() -> None:
    assert tuple(field.name for field in fields(Properties)) == NAMES
    assert tuple(field.name for field in fields(Resolved)) == NAMES
    assert sorted(one.rank for one in DECLARED) == list(range(1, len(DECLARED) + 1))


def test_a_value_is_spelled_as_it_is_read() -> None:
    for one in DECLARED:
        for value in one.choices:
            assert one.number(one.spell(value)) == value
            assert one.takes(one.spell(value))
            assert one.reach(value) == value
        assert one.takes("auto")
        assert one.unset in one.choices
        assert set(one.emulated) <= set(one.choices)
        assert one.reach(one.choices[-1] + 1) == one.choices[-1]
        assert one.reach(-1) == one.least


@pytest.mark.parametrize("text", ["", "yes", "ON", "1.5", "-1", "²", "9" * 5000, "0x10"])
def test_what_is_no_value_is_not_taken(text: str) -> None:
    assert not any(one.takes(text) for one in DECLARED)


def asked(qemu: Path, *words: str) -> str:
    """What QEMU says and where it ends: at the property, before it looks at a host."""
    command = [str(qemu), "-machine", "virt,gic-version=3", "-nodefaults", "-display", "none", "-S", "-device", ",".join(words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


def test_qemu_has_just_these(qemu: Path) -> None:
    """Every property that QEMU's own help calls one of accel=on is declared, with the values that it names."""
    text = asked(qemu, "arm-smmuv3", "help")
    listed = re.findall(r"^ +([a-z_-]+)=<(\w+)> +- (.*)\. Valid values are (.*?)\. Defaults", text, re.MULTILINE)
    told = {name: (kind, values) for name, kind, about, values in listed if "(for accel=on)" in about or "SubstreamIDs" in about}
    assert set(told) == set(NAMES)
    for one in DECLARED:
        kind, values = told[one.name]
        assert one.switch == (kind == "OnOffAuto")
        numbers = [int(number) for number in re.findall(r"\d+", values)]
        assert one.switch or (min(numbers), max(numbers)) == (one.choices[0], one.choices[-1])


@pytest.mark.parametrize("one", DECLARED, ids=lambda one: one.name)
def test_what_is_not_taken_qemu_refuses_in_these_words(one: Declaration, qemu: Path) -> None:
    wrong = ["perhaps", "-1", *map(str, one.others)] if one.switch else ["21", "on", *map(str, one.others)]
    for text in wrong:
        assert not one.takes(text)
        assert one.refusal(text) in asked(qemu, "arm-smmuv3", "primary-bus=pcie.0", f"{one.name}={text}")


@pytest.mark.parametrize("one", DECLARED, ids=lambda one: one.name)
def test_what_needs_accel_qemu_refuses_without_it(one: Declaration, qemu: Path) -> None:
    value = next(value for value in reversed(one.choices) if value not in one.emulated)
    assert one.needs_accel in asked(qemu, "arm-smmuv3", "primary-bus=pcie.0", f"{one.name}={one.spell(value)}")


def test_a_name_that_is_none_is_an_error() -> None:
    with pytest.raises(KeyError):
        declared("pri")
