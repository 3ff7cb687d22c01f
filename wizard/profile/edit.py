"""Writing and editing profiles with tomlkit: an edit changes the values that differ and leaves comments and order alone."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

import tomlkit
from tomlkit.items import Array, String

from wizard.host.model import Host
from wizard.plan.model import VmPlan
from wizard.plan.request import MadeFor, VmRequest
from wizard.plan.written import written
from wizard.profile.format import SCHEMA_LINE, TABLES, TOP, VERSION, Key, Table
from wizard.profile.layout import Block, Document, literal, string
from wizard.profile.lines import Statement
from wizard.profile.read import migrate, read_profile

Plain = Any
_RARE = {"uefi": True, "accel": True}
"""Choices of VMs that were imported: what every other VM has is not written."""


def write_profile(what: VmPlan | VmRequest, host: Host | None = None) -> str:
    """A whole profile. Of a plan: with every choice written out; of a request: what it says. Equal input, equal text."""
    request = written(what) if isinstance(what, VmPlan) else what
    if host is not None and request.made_for is None:
        made_for = MadeFor(host=host.facts.identity.host, digest=host.digest, product=host.facts.identity.product)
        request = VmRequest(**{**{name: getattr(request, name) for name in request.__struct_fields__}, "made_for": made_for})
    lines = [SCHEMA_LINE, f"version = {VERSION}"]
    values = as_tables(request)
    lines += [f"{key} = {literal(value)}" for key, value in values[""].items()]
    for table in TABLES:
        content = values.get(table.name)
        if content is None:
            continue
        if table.many:
            if not content:
                lines.insert(len(values[""]) + 2, f"{table.name} = []")
            for entry in content:
                lines += ["", f"[[{table.name}]]", *(f"{key} = {literal(value)}" for key, value in entry.items())]
        else:
            lines += ["", f"[{table.name}]", *(f"{key} = {literal(value)}" for key, value in content.items())]
    return "\n".join(lines) + "\n"


def edit_profile(text: str, request: VmRequest) -> str:
    """The text changed as little as it takes to say what ``request`` says: comments, order, blank lines and spelling of all else stay.

    A choice that the text leaves to its default stays out of it as long as the request has the default.
    """
    bom = "\ufeff" if text.startswith("\ufeff") else ""
    crlf = "\r\n" in text and text.count("\n") == text.count("\r\n")
    plain = text.removeprefix("\ufeff")
    plain = migrate(plain.replace("\r\n", "\n") if crlf else plain)
    old, findings = read_profile(plain)
    # Where something can't be read nothing is taken for granted: every choice is written.
    before = {} if findings else as_tables(old)
    wanted = as_tables(request)
    if before == wanted:
        edited = plain
    else:
        document = Document(plain)
        _edit_top(document, before, wanted)
        for table in TABLES:
            (_edit_list if table.many else _edit_table)(document, table, before.get(table.name), wanted.get(table.name))
        edited = str(document) if plain.endswith("\n") else str(document).removesuffix("\n")
    return bom + (edited.replace("\n", "\r\n") if crlf else edited)


def as_tables(request: VmRequest) -> dict[str, Plain]:
    """The request as plain tables, by the declared format; what is left to the planner is left out."""
    found: dict[str, Plain] = {"": _plain(TOP, request)}
    for table in TABLES:
        value: Any = getattr(request, table.attr) if table.attr else request
        if table.many:
            # An empty list says something only for NUMA: no guest nodes, where leaving it out lets the planner choose.
            if value or (value is not None and table.name == "numa"):
                found[table.name] = [_plain(table, entry) for entry in value]
        elif value is not None:
            content = _plain(table, value)
            if content:
                found[table.name] = content
    return found


def _plain(table: Table, value: Any) -> dict[str, Plain]:
    nested = table.nested
    found = {}
    for key in table.keys:
        owner = getattr(value, nested[0]) if nested and key.attr in nested[2] else value
        content = getattr(owner, key.attr)
        if _said(key, content):
            found[key.name] = key.kind.write(content)
    return found


def _said(key: Key, value: Any) -> bool:
    if value is None:
        return key.name == "hugepages"  # "none" is a choice too
    if key.name in _RARE and value == _RARE[key.name]:
        return False
    return not (
        key.name in ("notes", "split", "allow_in_use", "functions", "cpus", "options", "properties", "domain", "devices", "inside") and not value
    )


def _edit_top(document: Document, before: dict[str, Plain], wanted: dict[str, Plain]) -> None:
    with document.top.open() as top:
        _merge(top, TOP, before.get(""), wanted[""], keep={"version", *(table.name.partition(".")[0] for table in TABLES)})
        if "version" in top and top["version"] != VERSION:
            top["version"] = VERSION


def _edit_table(document: Document, table: Table, before: dict[str, Plain] | None, wanted: dict[str, Plain] | None) -> None:
    block = next((block for block in document.blocks if block.name == table.name), None)
    group, _, name = table.name.rpartition(".")
    if group and block is None:
        if before != wanted:
            _edit_grouped(document, table, group, name, before, wanted)
        return
    if wanted is None:
        if block is not None and before != wanted:
            document.remove(block)
        elif block is None and before != wanted:
            document.drop(table.name)
        return
    if block is not None:
        with block.open() as content:
            at = content[group].get(name) if group else content.get(table.name)
            _merge(at if isinstance(at, MutableMapping) else content, table, before, wanted)
        return
    if dotted := document.dotted(table.name):
        _edit_dotted(document, dotted, table, before, wanted)
        return
    with document.top.open() as top:
        at = top.get(table.name)
        if isinstance(at, MutableMapping):  # an inline table
            _merge(at, table, before, wanted)
            return
        top.pop(table.name, None)
    missing = {key: value for key, value in wanted.items() if before is None or before.get(key) != value}
    if missing:
        document.add(table, missing)


def _edit_grouped(document: Document, table: Table, group: str, name: str, before: dict[str, Plain] | None, wanted: dict[str, Plain] | None) -> None:
    """A table such as [passthrough.qemu] that has no header of its own: a new one, unless the group is written in another way."""
    block = next((block for block in document.blocks if block.name == group), document.top)
    with block.open() as content:
        held = content.get(group)
        if isinstance(held, MutableMapping):
            if wanted is None:
                held.pop(name, None)
                return
            at = held.setdefault(name, tomlkit.inline_table())
            _merge(at, table, before, wanted)
            return
    if wanted is not None:
        document.add(table, wanted)


def _edit_dotted(document: Document, dotted: list[Statement], table: Table, before: dict[str, Plain] | None, wanted: dict[str, Plain]) -> None:
    """Keys such as ``memory.size``: each a document of its own, since tomlkit loses count of tables that come in pieces."""
    lines = document.top.body.split("\n")
    there = {str(statement.path[1]) for statement in dotted}
    new = [f"{table.name}.{key} = {literal(value)}" for key, value in wanted.items()
           if key not in there and (before is None or before.get(key) != value)]  # fmt: skip
    lines[dotted[-1].last : dotted[-1].last] = new
    for statement in reversed(dotted):
        piece = tomlkit.parse("\n".join(lines[statement.first - 1 : statement.last]) + "\n")
        at = piece[table.name]
        assert isinstance(at, MutableMapping)
        key = str(statement.path[1])
        _merge(at, table, before, {key: wanted[key]} if key in wanted else {})
        lines[statement.first - 1 : statement.last] = tomlkit.dumps(piece).split("\n")[:-1] if key in wanted else []
    document.top.body = "\n".join(lines)


def _edit_list(document: Document, table: Table, before: list[dict[str, Plain]] | None, wanted: list[dict[str, Plain]] | None) -> None:
    if before == wanted:
        return
    if not wanted:
        for block in [block for block in document.blocks if block.name == table.name]:
            document.remove(block)
        document.drop(table.name)
        if wanted is not None:
            with document.top.open() as top:
                top[table.name] = tomlkit.array()
        return
    slots = [block for block in document.blocks if block.name == table.name]
    if not slots:
        with document.top.open() as top:
            if _edit_inline(top.get(table.name), table, before, wanted):
                return
            top.pop(table.name, None)
    old = [tomlkit.parse(block.body).unwrap()[table.name][0] for block in slots]
    places = _places(table, old, wanted)
    kept = [slot for place, slot in enumerate(slots) if place in places]
    taken = [(slots[place].lead, slots[place].body) for place in places if place is not None]
    for slot, (lead, body) in zip(kept, taken, strict=True):
        slot.lead, slot.body = lead, body
    for slot in slots:
        if slot not in kept:
            document.remove(slot)
    last: Block | None = None
    for content, place in zip(wanted, places, strict=True):
        if place is None:
            last = document.add(table, content, after=last, before=kept[0] if kept else None)
            continue
        last = kept.pop(0)
        with last.open() as opened:
            _merge(opened[table.name][0], table, before[place] if before else None, content)


def _edit_inline(array: Any, table: Table, before: list[dict[str, Plain]] | None, wanted: list[dict[str, Plain]]) -> bool:
    """A list of inline tables, edited where it stands; False where that would take a change of order."""
    if not isinstance(array, Array) or not len(array):
        return False
    places = _places(table, array.unwrap(), wanted)
    known = [place for place in places if place is not None]
    if known != sorted(known) or places[: len(known)] != known:
        return False
    for place in reversed(range(len(array))):
        if place not in known:
            del array[place]
    for place, (at, content) in enumerate(zip(known, wanted, strict=False)):
        _merge(array[place], table, before[at] if before else None, content)
    for content in wanted[len(known) :]:
        entry = tomlkit.inline_table()
        entry.update({key: _item(value) for key, value in content.items()})
        array.append(entry)
    return True


def _merge(at: MutableMapping[str, Any], table: Table, before: dict[str, Plain] | None, wanted: dict[str, Plain], keep: Iterable[str] = ()) -> None:
    keys = {key.name: key for key in table.keys}
    for name in [name for name in at if name not in wanted and name not in set(keep)]:
        del at[name]
    for name, value in wanted.items():
        if name not in at:
            if before is None or before.get(name) != value:
                at[name] = _item(value)
        elif not _equal(keys[name], at[name], value) and not _edit_items(keys[name], at[name], value):
            at[name] = _item(value, at[name])


def _edit_items(key: Key, old: Any, wanted: Plain) -> bool:
    """A list of values, edited where it stands, with the comments beside its items; False where that would take a change of order."""
    if not isinstance(old, Array) or key.kind.item is None:
        return False
    try:
        plain = [key.kind.item.write(key.kind.item.read(value)) for value in old.unwrap()]
    except (ValueError, TypeError):
        return False
    left = [value for value in plain if value in wanted]
    if not left or left != wanted[: len(left)]:
        return False
    for place in reversed(range(len(plain))):
        if plain[place] not in wanted:
            del old[place]
    for value in wanted[len(left) :]:
        old.append(value)
    return True


def _places(table: Table, old: list[Any], wanted: list[dict[str, Plain]]) -> list[int | None]:
    """Which of the old entries each of the wanted ones goes on with; None for a new one."""
    free = list(range(len(old)))
    found: list[int | None] = []
    key = next((key for key in table.keys if key.name == table.identity), None)
    for place, content in enumerate(wanted):
        if key is None or key.name not in content:
            match = place if place in free else None
        else:
            match = next((at for at in free if key.name in old[at] and _equal(key, old[at][key.name], content[key.name])), None)
            if match is None and place in free and key.name not in old[place]:
                match = place
        if match is not None:
            free.remove(match)
        found.append(match)
    return found


def _equal(key: Key, old: Any, new: Plain) -> bool:
    plain = old.unwrap() if hasattr(old, "unwrap") else old
    try:
        return bool(key.kind.read(plain) == key.kind.read(new))
    except (ValueError, TypeError):
        return False


def _item(value: Plain, old: Any = None) -> Any:
    """A value as tomlkit wants it, with the quotes of the one that it replaces where they can hold it."""
    if not isinstance(value, str):
        return tomlkit.item(value)
    literal = isinstance(old, String) and old.as_string().startswith("'") and "'" not in value and value.isprintable()
    return tomlkit.string(value, literal=True) if literal else string(value)
