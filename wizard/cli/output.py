"""Standard output is data only; everything else goes to standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from wizard.base.text import visible, visible_json, visible_lines


def print_json(value: Any) -> None:
    """A struct as indented JSON on standard output."""
    print(visible_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def print_lines(lines: Iterable[str]) -> None:
    """Text for people on standard output. Whatever came from outside, nothing that a terminal would act on gets through here."""
    text = "\n".join(map(visible_lines, lines))
    if text:
        print(text)


def say(text: str) -> None:
    """A remark for the person, not data."""
    print(visible_lines(text), file=sys.stderr)


def emit(arguments: argparse.Namespace, text: str, *, mode: int | None = None) -> None:
    """``text`` to -o FILE, whole or not at all, or to standard output."""
    if arguments.output:
        from pathlib import Path

        from wizard.base.files import PLAIN, write_atomic

        write_atomic(Path(arguments.output), text, force=arguments.force, mode=PLAIN if mode is None else mode)
        say(f"Wrote {visible(arguments.output)}.")
    else:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they need to be; the last one is free."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows)
