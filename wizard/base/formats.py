"""The versions of what the program reads and writes, and the line of ``--version``, which nothing else has to be loaded for."""

from __future__ import annotations

from wizard import __version__

SNAPSHOT = 1
"""Of snapshots (``wizard.facts.model``)."""
PROFILE = 1
"""Of profiles (``wizard.profile.format``)."""
OUTPUT = 1
"""Of every ``--json`` output: the ``schema`` in it."""


def version_text() -> str:
    """The version, with those of the formats."""
    return f"smmu-wizard {__version__} (snapshot format {SNAPSHOT}, profile format {PROFILE}, output schema {OUTPUT})"
