"""Writing and editing profiles with tomlkit: an edit changes the values that differ and leaves comments and order alone."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

import tomlkit
from tomlkit.items import AoT, String, StringType, Trivia

from wizard.host.model import Host
from wizard.plan.model import VmPlan
from wizard.plan.request import MadeFor, VmRequest
from wizard.plan.written import written
from wizard.profile.format import SCHEMA_LINE, TABLES, TOP, VERSION, Key, Table
from wizard.profile.read import migrate

Plain = Any


def write_profile(what: VmPlan | VmRequest, host: Host | None = None) -> str:
    """A whole profile. Of a plan: with every choice written out; of a request: what it says. Equal input, equal text."""
    request = written(what) if isinstance(what, VmPlan) else what
    if host is not None and request.made_for is None:
        made_for = MadeFor(host=host.facts.identity.host, digest=host.digest, product=host.facts.identity.product)
        request = VmRequest(**{**{name: getattr(request, name) for name in request.__struct_fields__}, "made_for": made_for})
    lines = [SCHEMA_LINE, f"version = {VERSION}"]
    values = as_tables(request)
    lines += [f"{key} = {_literal(value)}" for key, value in values[""].items()]
    for table in TABLES:
        content = values.get(table.name)
        if content is None:
            continue
        if table.many:
            if not content:
                lines.insert(len(values[""]) + 2, f"{table.name} = []")
            for entry in content:
                lines += ["", f"[[{table.name}]]", *(f"{key} = {_literal(value)}" for key, value in entry.items())]
        else:
            lines += ["", f"[{table.name}]", *(f"{key} = {_literal(value)}" for key, value in content.items())]
    return "\n".join(lines) + "\n"


def edit_profile(text: str, request: VmRequest) -> str:
    """The text changed as little as it takes to say what ``request`` says: comments, order and spelling of equal values stay."""
    document = tomlkit.parse(migrate(text))
    wanted = as_tables(request)
    _merge(document, TOP, wanted[""], keep={"version", *(table.name for table in TABLES)})
    for table in TABLES:
        content = wanted.get(table.name)
        if content is None:
            document.pop(table.name, None)
        elif table.many:
            _merge_list(document, table, content)
        else:
            if not isinstance(document.get(table.name), MutableMapping):
                document.pop(table.name, None)
                document.append(table.name, tomlkit.table())
            _merge(document[table.name], table, content)
    if "version" in document and document["version"] != VERSION:
        document["version"] = VERSION
    return tomlkit.dumps(document)


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
    return not (key.name in ("notes", "split", "allow_in_use", "functions", "cpus") and not value)


def _merge(at: MutableMapping[str, Any], table: Table, wanted: dict[str, Plain], keep: Iterable[str] = ()) -> None:
    keys = {key.name: key for key in table.keys}
    for name in [name for name in at if name not in wanted and name not in set(keep)]:
        del at[name]
    for name, value in wanted.items():
        if name not in at or not _equal(keys[name], at[name], value):
            at[name] = _item(value)


def _merge_list(document: tomlkit.TOMLDocument, table: Table, wanted: list[dict[str, Plain]]) -> None:
    old = document.get(table.name)
    entries = list(old) if isinstance(old, list) else []
    if not wanted:
        if not isinstance(old, list) or entries:
            document.pop(table.name, None)
            document[table.name] = tomlkit.array()
        return
    if not isinstance(old, AoT) or len(entries) != len(wanted) or not _same_order(table, entries, wanted):
        fresh = tomlkit.aot()
        for place, content in enumerate(wanted):
            match = _match(table, entries, content, place)
            if match is None:
                match = tomlkit.table()
            else:
                entries = [entry for entry in entries if entry is not match]
            _merge(match, table, content)
            fresh.append(match)
        if isinstance(old, AoT):
            document[table.name] = fresh
        else:
            document.pop(table.name, None)
            document.append(table.name, fresh)
        return
    for entry, content in zip(entries, wanted, strict=True):
        _merge(entry, table, content)


def _same_order(table: Table, entries: list[Any], wanted: list[dict[str, Plain]]) -> bool:
    return all(_match(table, entries, content, place) is entries[place] for place, content in enumerate(wanted))


def _match(table: Table, entries: list[Any], content: dict[str, Plain], place: int) -> Any:
    if not table.identity:
        return entries[place] if place < len(entries) else None
    key = next(key for key in table.keys if key.name == table.identity)
    for entry in entries:
        if table.identity in entry and table.identity in content and _equal(key, entry[table.identity], content[table.identity]):
            return entry
    if table.identity in content and place < len(entries) and table.identity not in entries[place]:
        return entries[place]
    return None


def _equal(key: Key, old: Any, new: Plain) -> bool:
    plain = old.unwrap() if hasattr(old, "unwrap") else old
    try:
        return bool(key.kind.read(plain) == key.kind.read(new))
    except (ValueError, TypeError):
        return False


def _item(value: Plain) -> Any:
    return _string(value) if isinstance(value, str) else tomlkit.item(value)


def _literal(value: Plain) -> str:
    """A value as TOML text."""
    if isinstance(value, str):
        return _string(value).as_string()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(one) for one in value) + "]"
    return str(value)


def _string(value: str) -> String:
    """A string in which every character that can't be seen is an escape; text of several lines stays in several lines."""
    if "\n" in value:
        body = "\n".join(_escaped(line) for line in value.split("\n"))
        return String(StringType.MLB, value, "\n" + body, Trivia())
    return String(StringType.SLB, value, _escaped(value), Trivia())


def _escaped(line: str) -> str:
    shown = []
    for character in line:
        code = ord(character)
        if character in '"\\':
            shown.append("\\" + character)
        elif character.isprintable():
            shown.append(character)
        elif character == "\t":
            shown.append("\\t")
        else:
            shown.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join(shown)
