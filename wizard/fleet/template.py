"""A baseline as a portable profile template: what ``match`` takes, with every property written out and no address in it."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.text import visible
from wizard.fleet.baseline import BaselineView, Held
from wizard.plan.properties import declared

_BLANKS = str.maketrans({"\n": " ", "\r": " ", "\t": " "})


def template_of(view: BaselineView) -> str:
    """The text; ``ValueError`` when there is no baseline."""
    if view.baseline is None:
        raise ValueError("not every host can supply a vSMMU")
    return "\n".join(_lines(view)) + "\n"


def _lines(view: BaselineView) -> Iterator[str]:
    assert view.baseline is not None
    yield f"# The richest vSMMU that {_every(view.hosts)} for: {view.device}."
    yield "# A portable profile template: every property is written out, so the guest sees one platform wherever it is started."
    yield "# Ready profiles for the hosts at hand: smmu-wizard match FILE SNAPSHOT… -o DIR"
    if view.granules:
        yield f"# Granules that the SMMUs have in common: {', '.join(view.granules)}."
    yield "version = 1"
    yield 'name = "vm"'
    yield 'mode = "accel"'
    yield "count = 1  # how many of these VMs"
    if view.machine:
        yield ""
        yield "[machine]"
        yield f'type = "{view.machine}"'
    yield ""
    yield "[cpus]"
    yield "count = 2"
    yield ""
    yield "[memory]"
    yield 'size = "1G"'
    yield ""
    yield "[properties]"
    for held in view.properties:
        value = f'"{held.value}"' if declared(held.property).switch else held.value
        yield f"{held.property} = {value}{_comment(held)}"
    yield ""
    yield "[[device]]"
    if view.device.ids:
        yield f'ids = "{view.device.ids}"'
    if view.device.class_:
        yield f'class = "{view.device.class_}"'
    if not view.device.ids and not view.device.class_:
        yield '# ids = "8086:10ca", class = "02": which device; without them any that can be accelerated'
    yield "count = 1"


def _every(hosts: int) -> str:
    return "this host supplies" if hosts == 1 else f"{hosts} hosts all supply"


def _comment(held: Held) -> str:
    if held.without_them is None:
        return ""
    first = visible(held.held_down_by.names[0]).translate(_BLANKS)
    more = held.held_down_by.count - 1
    return f"  # {held.without_them} without {first}" + (f" and {more} more" if more else "")
