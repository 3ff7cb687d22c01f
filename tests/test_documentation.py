"""What the documentation shows is what the program says.

A ```console block is run: each line that starts with "$ " is a command, what follows is its output. A line of only "…" stands for any
number of lines, "…" within a line for any characters. All blocks of one file run in order, in one empty directory, with
``smmu-wizard`` in PATH. Blocks of other languages are not run; ```toml and ```json have to parse.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Example:
    """A command and the output that the page promises; ``line`` is where the block starts."""

    line: int
    command: str
    expected: str


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Line number and text of each fenced block of a language."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start()) + 1, found[2]) for found in FENCE.finditer(text) if found[1] == language]


def examples(page: Path) -> list[Example]:
    """The commands of a page, in order."""
    found = []
    for line, block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, expected = part.partition("\n")
            found.append(Example(line, command, expected))
    return found


def matches(expected: str, said: str) -> bool:
    """Whether the output is the expected one, with its ellipses."""
    patterns = []
    for line in expected.splitlines():
        patterns.append(r"(?:.*\n)*?" if line.strip() == "…" else ".*?".join(map(re.escape, line.rstrip().split("…"))) + r"[ ]*\n")
    return re.fullmatch("".join(patterns), said if not said or said.endswith("\n") else said + "\n") is not None


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.name)
def test_examples_say_what_the_page_says(page: Path, tmp_path: Path) -> None:
    programs, directory = tmp_path / "bin", tmp_path / "run"
    programs.mkdir()
    directory.mkdir()
    (programs / "smmu-wizard").write_text(f'#!/bin/sh\nPYTHONPATH="{PROJECT}" exec "{sys.executable}" -m wizard "$@"\n', encoding="utf-8")
    (programs / "smmu-wizard").chmod(0o755)
    for name in ("scripts", "fixtures"):
        (directory / name).symlink_to(PROJECT / name)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "120", "SMMU_WIZARD_VENV": str(Path(sys.prefix))}
    for example in examples(page):
        command = re.sub(r"^scripts/demo\b", "smmu-wizard --demo", example.command)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        if not matches(example.expected, done.stdout):
            pytest.fail(f"{page.name}:{example.line}: $ {example.command}\nsays\n{done.stdout}\nnot\n{example.expected}", pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_data_blocks_parse(page: Path) -> None:
    for _, block in blocks(page, "toml"):
        tomllib.loads(block)
    for _, block in blocks(page, "json"):
        json.loads(block)


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md"]:
        prose = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))  # a message in backquotes may look like a link
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", prose):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_an_ellipsis_stands_for_lines_or_characters_and_for_nothing_else() -> None:
    assert matches("a\n…\nz\n", "a\nb\nc\nz\n")
    assert matches("a … c\n", "a b c\n")
    assert not matches("a\nz\n", "a\nb\nz\n")
    assert not matches("a\n", "a\nb\n")
