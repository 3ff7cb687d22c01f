"""How old the tables are: ``doctor --knowledge``."""

from __future__ import annotations

from datetime import date

import msgspec

from wizard.base.text import plural
from wizard.knowledge.tables import TABLES, Read

SCHEMA = 1


class TableAge(msgspec.Struct, frozen=True):
    """One table: what it is about, how many entries it has, when the oldest and the newest were looked at, and what it was read from."""

    name: str
    about: str
    entries: int
    oldest: date
    newest: date
    days: int  # since the newest
    read: tuple[Read, ...]


class KnowledgeView(msgspec.Struct, frozen=True):
    """The output of ``doctor --knowledge --json``."""

    schema: int
    today: date
    tables: tuple[TableAge, ...]


def knowledge(today: date) -> KnowledgeView:
    """The age of every table on that day."""
    return KnowledgeView(SCHEMA, today, tuple(_age(name, today) for name in TABLES))


def _age(name: str, today: date) -> TableAge:
    table = TABLES[name]()
    dates = [entry.date for entry in table.entries()]
    return TableAge(name, table.about, len(dates), min(dates), max(dates), (today - max(dates)).days, table.read)


def lines(view: KnowledgeView) -> list[str]:
    """For people: each table with its age, and below it what it was read from."""
    found = ["What verdicts rest on beside the host itself, and when it was last looked at:"]
    for table in view.tables:
        age = "today" if table.days <= 0 else f"{plural(table.days, 'day')} ago"
        span = "" if table.oldest == table.newest else f", oldest entry of {table.oldest}"
        found += ["", f"{table.name}: {table.about}", f"  {table.entries} entries, last looked at {table.newest} ({age}{span})"]
        found += [f"  read: {read.what}, {read.version} ({read.date})" for read in table.read]
    return [*found, "", "What is newer than this is not known here: a newer release of smmu-wizard knows more."]
