"""The documentation names tests that exist, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_coverage_names_tests_that_exist() -> None:
    text = (ROOT / "docs/smmu-coverage.md").read_text()
    named = set(re.findall(r"(?:tests/arch/)?test_\w+\.py", text))
    assert len(named) > 12
    for name in named:
        assert (ROOT / (name if name.startswith("tests/") else f"tests/smmu/{name}")).exists(), name


def test_the_example_runs() -> None:
    text = (ROOT / "docs/smmu.md").read_text()
    block = text.split("## From Python\n\n")[1].split("\n\n|")[0]
    exec("\n".join(line[4:] for line in block.splitlines() if line.startswith("    ")), {})
