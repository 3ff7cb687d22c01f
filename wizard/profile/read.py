"""Reading a profile: strict, and with every error at once, each with file, line, key, what was found and what is allowed.

Only what is no TOML, too large or of a newer version ends at once (``InputError``): there is nothing else to say about it.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wizard.base import toml
from wizard.base.errors import InputError
from wizard.base.finding import Area, Finding, Kind, Severity, define
from wizard.base.text import visible
from wizard.plan.request import VmRequest
from wizard.profile.format import MIGRATIONS, TABLES, TOP, VERSION, Key, Table
from wizard.profile.kinds import ValueKind
from wizard.profile.lines import key_lines, line_of, statements

LIMIT = 1 << 20  # bytes
_HINTS = 50  # findings that come with a guess of what was meant
_OF_A_REQUEST = frozenset({"count", "device", "place", "spare"})  # keys of wizard.fleet.request
_SHOWN = 60  # characters of a value in a message

UNKNOWN_KEY = define(
    "profile-unknown-key", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="{subject}, line {line}: there is no key {key}{hint}.",
    why="A profile says everything about the VM. A key that nobody reads would have no effect, and nobody would notice.",
    fix="{table} has: {allowed}.",
)  # fmt: skip
BAD_VALUE = define(
    "profile-value", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="{subject}, line {line}: {key} is {found}.",
    why="It has to be {allowed}.",
    fix="Write {allowed}.",
)  # fmt: skip
MISSING_KEY = define(
    "profile-missing-key", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="{subject}, line {line}: {table} has no {key}.",
    why="Without it there is nothing to plan ({doc}).",
    fix="Write {key} = … : {allowed}.",
)  # fmt: skip


def read_profile(source: Path | str, *, name: str | None = None) -> tuple[VmRequest, list[Finding]]:
    """The request of a profile and everything that is wrong with it; what is wrong has its default in the request.

    ``source`` is a path, or the text itself as ``str``. Raises ``InputError`` for what can't be read at all.
    """
    text, shown = (load(source), str(source)) if isinstance(source, Path) else (source, name or "profile")
    shown = visible(name or shown)
    data, text = parse(text, shown)
    return _Reader(data, text, shown).request()


def parse(text: str, shown: str) -> tuple[dict[str, Any], str]:
    """The tables of a profile, and its text, brought to the present version."""
    text = text.removeprefix("\ufeff")  # some editors begin a file with it
    if len(text.encode("utf-8", "surrogatepass")) > LIMIT:
        raise InputError(f"{shown} is larger than {LIMIT >> 10} KiB.", "A profile is never that large; name another file.")
    try:
        data = toml.loads(text)
    except ValueError as error:
        where = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        last = text.count("\n") + 1 if "(at end of document)" in str(error) else None
        at = f", line {where[1] if where else last}" if where or last else ""
        reason = _twice(text, int(where[1])) if where and "Cannot" in str(error) else ""
        reason = reason or visible(str(error).partition(" (at")[0])
        fix = "Correct the line; `smmu-wizard schema profile` helps an editor to check it."
        raise InputError(f"{shown}{at}: this is no TOML: {reason}.", fix) from error
    version = data.get("version", VERSION)
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise InputError(f"{shown} is a profile of version {version}; this program knows {VERSION}.", "Use a newer smmu-wizard.")
    if isinstance(version, int) and version < VERSION and version in MIGRATIONS:
        text = migrate(text, shown)
        data = toml.loads(text)
    return data, text


def _twice(text: str, line: int) -> str:
    """What stands twice where tomllib found it the second time ("Cannot overwrite a value", "Cannot declare ('memory',) twice")."""
    before = "\n".join(text.split("\n")[:line])  # this much was well-formed
    again = next((s for s in statements(before) if s.first <= line <= s.last), None)
    first = line_of(key_lines(before), again.path) if again else line
    if again is None or first == again.first:
        return ""
    return f"{_shown_path(again.path)} stands there twice, in line {first} for the first time"


def migrate(text: str, shown: str = "profile") -> str:
    """The profile in the present version, comments and order kept; unchanged when it is in it already."""
    try:
        version = toml.loads(text).get("version", VERSION)
        if version == VERSION:
            return text
        import tomlkit  # keeps comments and order; a profile of today's version needs none of it

        document = tomlkit.parse(text)
    except ValueError as error:  # tomlkit's ParseError is one
        raise InputError(f"{shown} is no TOML: {visible(str(error))}.", "Correct it first.") from error
    while version < VERSION:
        if version not in MIGRATIONS:
            raise InputError(f"{shown} is a profile of version {version}, which no released program wrote.", "Plan the VM again.")
        MIGRATIONS[version](document)
        version += 1
        document["version"] = version
    return tomlkit.dumps(document)


def load(path: Path) -> str:
    """The text of a file, as it is. Raises ``InputError`` for what can't be read, is too large or no UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {visible(str(path))}.", "Check the path, or make it with `smmu-wizard plan … -o DIR`.") from error
    except OSError as error:
        raise InputError(f"{visible(str(path))} can't be read: {error.strerror or error}.", "Check the path and its permissions.") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        fix = "A profile is TOML, and TOML is UTF-8; name another file."
        raise InputError(f"{visible(str(path))} is not UTF-8 (byte {error.start}).", fix) from error


class _Reader:
    """One profile while it is read; holds the findings."""

    def __init__(self, data: dict[str, Any], text: str, shown: str) -> None:
        self.data, self.shown = data, shown
        self.findings: list[Finding] = []
        self._text = text
        self._lines: dict[tuple[str | int, ...], int] | None = None

    def line(self, path: tuple[str | int, ...]) -> int:
        """Made only when there is something to complain of."""
        if self._lines is None:
            self._lines = key_lines(self._text)
        return line_of(self._lines, path)

    def request(self) -> tuple[VmRequest, list[Finding]]:
        tables = {tuple(table.name.split(".")): table for table in TABLES}
        first = tuple(dict.fromkeys(path[0] for path in tables))
        top = {key: value for key, value in self.data.items() if key not in first and key != "version"}
        if "version" in self.data and (isinstance(self.data["version"], bool) or self.data["version"] != VERSION):
            self.bad(("version",), self.data["version"], str(VERSION))
        values = self.table(TOP, top, (), known=("version", *first))
        self.groups(tables)
        for path, table in tables.items():
            found: Any = self.data
            for name in path:
                found = found.get(name) if isinstance(found, dict) else None
            if found is None:
                continue
            if table.many:
                values[table.attr] = self.entries(table, found)
            elif not isinstance(found, dict):
                self.bad(path, found, f"a table [{table.name}]")
            elif table.make is None:
                values |= self.table(table, found, path)
            else:
                made = self.struct(table, self.table(table, found, path))
                if made is not None:
                    values[table.attr] = made
        values.setdefault("name", "")
        findings = sorted(self.findings, key=lambda finding: int(re.findall(r", line (\d+):", finding.what)[0]))
        return VmRequest(**values), findings

    def groups(self, tables: dict[tuple[str, ...], Table]) -> None:
        """Tables that hold tables only, such as [passthrough]: what else is in them."""
        for group in dict.fromkeys(path[0] for path in tables if len(path) > 1):
            inner = [path[1] for path in tables if path[0] == group]
            found = self.data.get(group, {})
            if not isinstance(found, dict):
                self.bad((group,), found, f"tables [{group}.{inner[0]}]")
                continue
            for name in found:
                if name not in inner:
                    self.unknown(Table(group, (), ""), (group, name), inner)

    def entries(self, table: Table, found: Any) -> tuple[Any, ...]:
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            self.bad((table.name,), found, f"a list of tables [[{table.name}]]")
            return ()
        made = (self.struct(table, self.table(table, entry, (table.name, place))) for place, entry in enumerate(found))
        return tuple(entry for entry in made if entry is not None)

    def struct(self, table: Table, values: dict[str, Any]) -> Any:
        if table.make is None or any(key.required and key.attr not in values for key in table.keys):
            return None
        if table.nested:
            attr, make, names = table.nested
            values = {**{k: v for k, v in values.items() if k not in names}, attr: make(**{k: v for k, v in values.items() if k in names})}
        return table.make(**values)

    def table(self, table: Table, found: dict[str, Any], path: tuple[str | int, ...], known: tuple[str, ...] = ()) -> dict[str, Any]:
        keys = {key.name: key for key in table.keys}
        values: dict[str, Any] = {}
        for name, value in found.items():
            key = keys.get(name)
            if key is None:
                self.unknown(table, (*path, name), [*keys, *known])
                continue
            try:
                values[key.attr] = key.kind.read(value)
            except (ValueError, TypeError):
                self.refused(key.kind, (*path, name), value)
        for key in table.keys:
            if key.required and key.name not in found:
                self.missing(table, key, path)
        return values

    def refused(self, kind: ValueKind, path: tuple[str | int, ...], value: Any) -> None:
        """A value that its kind does not take; of a list, each item that its kind does not take."""
        if kind.item is None or not isinstance(value, list):
            self.bad(path, value, kind.allowed)
            return
        for place, item in enumerate(value):
            try:
                kind.item.read(item)
            except (ValueError, TypeError):
                self.bad((*path, place), item, kind.item.allowed)

    def unknown(self, table: Table, path: tuple[str | int, ...], allowed: list[str]) -> None:
        name = str(path[-1])
        # A hint for each of thousands helps nobody, and takes its time.
        close = get_close_matches(name, allowed, 1) if len(self.findings) < _HINTS else []
        hint = f" (is {close[0]} meant?)" if close else ""
        if len(path) == 1 and name in _OF_A_REQUEST:
            hint = " (it belongs to a request for several hosts, such as a baseline's template: `smmu-wizard match` makes profiles of it)"
        self.findings.append(
            UNKNOWN_KEY.at(
                self.shown,
                line=self.line(path),
                key=_shown_path(path),
                hint=hint,
                table=f"[{table.name}]" if table.name else "The top of a profile",
                allowed=", ".join(allowed),
            )
        )

    def bad(self, path: tuple[str | int, ...], value: Any, allowed: str) -> None:
        self.findings.append(BAD_VALUE.at(self.shown, line=self.line(path), key=_shown_path(path), found=_shown_value(value), allowed=allowed))

    def missing(self, table: Table, key: Key, path: tuple[str | int, ...]) -> None:
        name = _shown_path(path) or "the profile"
        self.findings.append(MISSING_KEY.at(self.shown, line=self.line(path), table=name, key=key.name, doc=key.doc, allowed=key.kind.allowed))


def _shown_path(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{visible(part)}" if text else visible(part)
    return text


def _shown_value(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    shown = visible(f'"{value}"' if isinstance(value, str) else str(value))
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
