"""The schemas of every ``--json``, without room for fields that they do not name."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema

from wizard.cli.schema import schema_of


def closed(schema: Any) -> Any:
    """The schema without room for fields that it does not name: a field that is printed and not described is found."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(part) for name, part in schema.items()}
    if found.get("type") == "object" and "properties" in found:
        found.setdefault("additionalProperties", False)
    return found


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = closed(schema_of(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
