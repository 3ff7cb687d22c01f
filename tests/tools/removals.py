"""Facts with one of them taken away: as a source would have left them that could not hold it, or did not get to read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from wizard.facts.held import COLLECTIONS
from wizard.facts.model import Facts

Removal = tuple[str, Facts]

# What a fact is found by, or what was ruled by the administrator: nobody fails to read it and still has the rest.
_KEPT = {
    "functions": {"address", "path", "vendor", "device", "class_"},
    "iommus": {"name"},
    "groups": {"id"},
    "nodes": {"id"},
    "hw_info": {"address", "error", "step"},  # an error says that something else was not read
    "kernel": set(),
}
_SHORTER = (64, 256)  # bytes of configuration space: an ordinary user's, and what a conventional host bridge gives
replace = msgspec.structs.replace


def one_less(facts: Facts) -> Iterator[Removal]:
    """(what was taken, the facts without it), every fact once."""
    for name in ("functions", "iommus", "groups", "nodes", "hw_info"):
        yield from _of_entries(facts, name)
    yield from ((f"kernel.{label}", replace(facts, kernel=kernel)) for label, kernel in _fields(facts.kernel, _KEPT["kernel"]))
    for option in facts.kernel.config or {}:
        # Part of a configuration: the silence of a whole one is an answer by itself.
        config = {name: value for name, value in (facts.kernel.config or {}).items() if name != option}
        yield f"kernel.config.{option}", replace(facts, kernel=replace(facts.kernel, config=config, config_partial=True))
    for place, line in enumerate(facts.log):
        yield f"log: {line}", replace(facts, log=(*facts.log[:place], *facts.log[place + 1 :]))
    for place, line in enumerate(facts.moment.log):
        left = (*facts.moment.log[:place], *facts.moment.log[place + 1 :])
        yield f"moment.log: {line}", replace(facts, moment=replace(facts.moment, log=left))
    for name in ("device_tree", "iommufd", "vfio", "kvm", "cpus", "cpu_model", "memory_total"):
        if getattr(facts, name) is not None:
            yield name, replace(facts, **{name: None})
    for name in ("nodes", "hw_info", "in_use", "programs", "firmware", "limits"):
        if getattr(facts, name):
            yield name, replace(facts, **{name: type(getattr(facts, name))()})
    for name, where in COLLECTIONS.items():
        if getattr(facts, name):
            unread = facts.unread | {where.value: "taken away by this test"}
            yield f"all of {name}", replace(facts, unread=unread, **{name: type(getattr(facts, name))()})


def _of_entries(facts: Facts, name: str) -> Iterator[Removal]:
    entries = getattr(facts, name)
    for place, entry in enumerate(entries):
        label = f"{name}.{getattr(entry, next(iter(entry.__struct_fields__)))}"
        before, after = entries[:place], entries[place + 1 :]
        if name != "functions":
            yield label, replace(facts, **{name: (*before, *after)})
        for field, less in _fields(entry, _KEPT[name]):
            yield f"{label}.{field}", replace(facts, **{name: (*before, less, *after)})
        for length in _SHORTER if name == "functions" else ():
            if length < entry.config_length:
                short = replace(entry, config=entry.config[: 2 * length], config_length=length)
                yield f"{label}.config[{length}:]", replace(facts, functions=(*before, short, *after))


def _fields(entry: Any, kept: set[str]) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(entry):
        if field.name in kept or field.name == "config_length" or field.required:
            continue
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        if getattr(entry, field.name) != default:
            changes = {field.name: default} | ({"config_length": 0} if field.name == "config" and hasattr(entry, "config_length") else {})
            yield field.name, replace(entry, **changes)
