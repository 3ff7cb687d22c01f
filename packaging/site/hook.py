"""What mkdocs has to be told of docs/: its order is that of docs/README.md's tables, and a few pages link to files of the tree above it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"\[[^\]]*\]\(([\w/-]+\.md)\)")
_ABOVE = re.compile(r"\]\(\.\./([\w/.-]+\.md)(#[\w-]+)?\)")


def on_config(config: Any) -> Any:
    """The navigation: one part for each table of docs/README.md, by its heading."""
    parts: list[Any] = [{"Start": ["README.md", "tour.md"]}]
    for line in (PROJECT / "docs/README.md").read_text(encoding="utf-8").splitlines():
        pages = _LINK.findall(line)
        if line.startswith("| ") and not pages:
            parts.append({line.strip("| ").split(" | ")[0].rstrip("| ").capitalize(): []})
        elif line.startswith("| "):
            [found] = parts[-1].values()
            found += pages
    sources = sorted(path.relative_to(PROJECT / "docs").as_posix() for path in (PROJECT / "docs/sources").glob("*.md"))
    config["nav"] = [part for part in parts if next(iter(part.values()))] + [{"Sources": sources}]
    return config


def _above() -> set[str]:
    """The files above docs/ that its pages link to, relative to the project."""
    pages = (PROJECT / "docs").rglob("*.md")
    return {name for page in pages for name, _ in _ABOVE.findall(page.read_text(encoding="utf-8"))}


def on_files(files: Files, config: Any) -> Files:
    """Those files as pages of the site, without a place in the navigation."""
    for name in sorted(_above()):
        made = File.generated(config, f"tree/{name}", abs_src_path=str(PROJECT / name))
        made.inclusion = made.inclusion.NOT_IN_NAV
        files.append(made)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to them; a link of theirs into docs/ is one of the site."""
    if page.file.src_uri.startswith("tree/"):
        up = "../" * page.file.src_uri.count("/")
        return re.sub(r"\]\((?:\.\./)*docs/", f"]({up}", markdown)
    return _ABOVE.sub(lambda link: f"](tree/{link[1]}{link[2] or ''})", markdown)
