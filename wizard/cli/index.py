"""``index``: what an index of summaries is good for beside a second question: rows for databases, and several merged into one."""

from __future__ import annotations

import argparse
import importlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizard.base.errors import ProgramError, UsageError
from wizard.base.exits import Exit
from wizard.base.text import plural, visible
from wizard.cli.output import put, say

if TYPE_CHECKING:
    from wizard.fleet.entry import Entry

PARQUET = ".parquet"


def run_index(arguments: argparse.Namespace) -> int:
    """Merge indexes into the first one named, or write the rows of snapshots and indexes."""
    from wizard.base.signals import ending_in_order

    with ending_in_order():
        return _merge(arguments) if arguments.action == "merge" else _rows(arguments)


def _merge(arguments: argparse.Namespace) -> int:
    from wizard.fleet.merge import merge

    target, *sources = arguments.snapshots
    if not sources:
        raise UsageError("One index alone is merged already.", "smmu-wizard index merge TARGET.sqlite INDEX.sqlite …")
    count = merge(Path(target), sources)
    say(f"{visible(target)} holds {plural(count, 'file')}.")
    return Exit.OK


def _rows(arguments: argparse.Namespace) -> int:
    from wizard.base.files import write_atomic
    from wizard.cli.fleet import gather_fleet, tell_findings
    from wizard.fleet.hostrows import ndjson

    parquet = bool(arguments.output) and arguments.output.endswith(PARQUET)
    write = _parquet_writer() if parquet else None  # what is missing is said before 10,000 files are read
    fleet = gather_fleet(arguments)
    if write is not None:
        write_atomic(Path(arguments.output), write(fleet.entries), force=arguments.force)
    elif arguments.output:
        write_atomic(Path(arguments.output), b"".join(ndjson(fleet.entries)), force=arguments.force)
    else:
        for text in ndjson(fleet.entries):
            put(text.decode())
    tell_findings(fleet.findings)
    if arguments.output:
        say(f"Wrote the rows of {plural(len(fleet.entries), 'host')} to {visible(arguments.output)}.")
    return Exit.OK


def _parquet_writer() -> Any:
    """A function of entries that gives the file's bytes; ProgramError without pyarrow."""
    try:
        pyarrow: Any = importlib.import_module("pyarrow")  # an optional extra, without types of its own
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        fix = "pip install 'smmu-wizard[parquet]'; or name a file that ends otherwise: NDJSON needs nothing, and DuckDB reads it as well."
        raise ProgramError("Parquet needs pyarrow, which is not installed.", fix) from error
    from typing import get_args, get_type_hints

    import msgspec

    from wizard.fleet.hostrows import HostRow, host_rows

    kinds = {str: pyarrow.string(), int: pyarrow.int64(), bool: pyarrow.bool_()}
    hints = get_type_hints(HostRow)
    columns = [(field.encode_name, kinds[(get_args(hints[field.name]) or (hints[field.name],))[0]]) for field in msgspec.structs.fields(HostRow)]
    schema = pyarrow.schema(columns)

    def write(entries: Iterable[Entry]) -> bytes:
        file = io.BytesIO()
        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            rows: list[tuple[object, ...]] = []

            def flush() -> None:
                by_column = zip(*rows, strict=True)
                writer.write_table(
                    pyarrow.table([pyarrow.array(values, kind) for values, (_, kind) in zip(by_column, columns, strict=True)], schema=schema)
                )
                rows.clear()

            for entry in entries:
                rows.extend(msgspec.structs.astuple(row) for row in host_rows(entry))
                if len(rows) >= 1 << 16:
                    flush()
            if rows:
                flush()
        return file.getvalue()

    return write
