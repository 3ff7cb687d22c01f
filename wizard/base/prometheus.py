"""The text format of Prometheus (exposition formats, text format 0.0.4), as node_exporter's textfile collector reads it.

Names and labels by its conventions (prometheus.io/docs/practices/naming): base units, ``_total`` for counters, no label without an end of
values. A name belongs to one file alone: the collector takes no series twice, and no two helps of one name.
"""

from __future__ import annotations

from collections.abc import Iterator

Labels = tuple[tuple[str, str], ...]
Values = dict[Labels, float]


def metric(name: str, kind: str, text: str, values: Values) -> Iterator[str]:
    """The lines of one metric; none where it has no value."""
    if not values:
        return
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        shown = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels)
        yield f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"


def _escaped(text: str) -> str:
    """A label's value: backslash, double quote and line feed have to be escaped."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
