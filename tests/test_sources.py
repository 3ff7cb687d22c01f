"""What the code cites is in the repository: keys of docs/sources.md, and pages.

A key stands behind "sources:" in a comment or docstring, several with commas on one line, and is an anchor of a page below docs/.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT

PAGES = sorted((PROJECT / "docs").rglob("*.md"))
CODE = sorted(
    path for room in ("wizard", "tests", "benchmarks", "scripts") for path in (PROJECT / room).rglob("*") if path.suffix in (".py", ".sh", "")
)
ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
CITED = re.compile(r"\bsources: ([a-z]+-[\w-]+(?:, [a-z]+-[\w-]+)*)")
PAGE = re.compile(r"\b(?:[\w.-]+/)+[\w.-]+\.md\b|\b[A-Z]+\.md\b")
# Spellings of what was once cited and can't be looked up: a key on its own, a page of another tree, a document that nobody else has.
BARE = re.compile(
    r'"""(?:Rows? )?[MPS]\d+\b|\bproblems\.md \d|\bdomain/[a-z]+\.md|\bsection \d+ of the design\b|\bthe design\b|\bdomain knowledge\b', re.I
)


def code() -> Iterator[tuple[str, int, str]]:
    """Every line of the code: file, number, text."""
    for path in CODE:
        if path.is_file() and path != Path(__file__) and "data" not in path.parts:
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                yield str(path.relative_to(PROJECT)), number, line


def anchors() -> Counter[str]:
    """How often each anchor of the documentation is there."""
    return Counter(key for page in PAGES for key in ANCHOR.findall(page.read_text(encoding="utf-8")))


def slugs(page: Path) -> set[str]:
    """What a link to a part of a page can name: its anchors, and its headings as GitHub names them."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {*ANCHOR.findall(text), *(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)}


def test_every_key_is_an_anchor_of_one_page() -> None:
    there = anchors()
    assert [key for key, count in there.items() if count > 1] == []
    lost = [
        f"{name}:{number}: {key}" for name, number, line in code() for cited in CITED.findall(line) for key in cited.split(", ") if key not in there
    ]
    assert lost == []


def test_keys_are_cited() -> None:
    """Not an empty search: the rooms that rest on measured facts do cite them."""
    rooms = {name.rsplit("/", 1)[0] for name, _, line in code() if CITED.search(line)}
    assert {"wizard/plan/rules", "wizard/host/conditions", "wizard/host", "wizard/export"} <= rooms


def test_nothing_is_cited_that_is_not_here() -> None:
    assert [f"{name}:{number}: {line.strip()[:100]}" for name, number, line in code() if BARE.search(line)] == []


def test_pages_that_the_program_names_are_here() -> None:
    named = {(name, page) for name, _, line in code() if name.startswith("wizard/") for page in PAGE.findall(line)}
    assert [(name, page) for name, page in sorted(named) if not (PROJECT / page).is_file()] == []


@pytest.mark.parametrize("page", [*PAGES, PROJECT / "README.md", PROJECT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_to_parts_of_pages_lead_somewhere(page: Path) -> None:
    lost = []
    for target, part in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        if not file.is_file() or part not in slugs(file):
            lost.append(f"{target}#{part}")
    assert lost == []
