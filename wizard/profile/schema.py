"""The JSON Schema of profiles, out of the declared format."""

from __future__ import annotations

from typing import Any

from wizard.profile.format import TABLES, TOP, VERSION, Key, Table


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a profile; editors find it by the ``#:schema`` line."""
    top = _table(TOP)
    top["properties"] = {"version": {"const": VERSION, "description": "the format's version"}, **top["properties"]}
    for table in TABLES:
        content = _table(table)
        group, _, name = table.name.rpartition(".")
        properties = top["properties"]
        if group:
            held = properties.setdefault(group, {"type": "object", "description": f"[{group}.…]", "properties": {}, "additionalProperties": False})
            properties = held["properties"]
        properties[name] = {"type": "array", "items": content, "description": table.doc} if table.many else content
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "smmu-wizard profile",
        "description": "One VM with functions of the host behind accelerated SMMUv3s.",
        **top,
    }


def _table(table: Table) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "description": table.doc,
        "properties": {key.name: _key(key) for key in table.keys},
        "additionalProperties": False,
    }
    required = [key.name for key in table.keys if key.required]
    if required:
        found["required"] = required
    return found


def _key(key: Key) -> dict[str, Any]:
    return {**key.kind.schema, "description": key.doc}
