"""What a release consists of, and the documentation as a site: each held against the tool that others would take for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.tools.cache import PROJECT
from wizard import __version__


def run(*words: str | Path, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=200)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("release")
    done = run(sys.executable, PROJECT / "scripts/build", place)
    assert done.returncode == 0, done.stderr
    return place


def test_a_release_is_whole_and_its_sums_hold(release: Path) -> None:
    names = {path.name for path in release.iterdir()}
    v = __version__
    kinds = {
        f"smmu_wizard-{v}.tar.gz",
        f"smmu_wizard-{v}-py3-none-any.whl",
        f"smmu_wizard_core-{v}-py3-none-any.whl",
        f"smmu_wizard-{v}.cdx.json",
        "smmu-wizard-record",
    }
    assert names == kinds | {"SHA256SUMS"}
    done = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=release)
    assert (done.returncode, done.stdout.count(": OK")) == (0, len(kinds)), done.stderr


def test_the_bill_of_materials_names_what_is_installed(release: Path) -> None:
    """CycloneDX's own schema, every dependency of pyproject.toml with a release and the hashes that pip holds it to, and what needs what."""
    [path] = release.glob("*.cdx.json")
    text = path.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = msgspec.json.decode(text)
    assert bill["metadata"]["component"]["version"] == __version__
    components = {one["name"].replace("-", "_").replace(".", "_"): one for one in bill["components"]}
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    direct = {requirement.split("~")[0].split(">")[0].replace(".", "_") for requirement in wanted}
    assert direct <= set(components)
    for one in components.values():
        assert any(place.get("hashes") for place in one["externalReferences"]), one["name"]
    needs = {one["ref"]: set(one.get("dependsOn", ())) for one in bill["dependencies"]}
    assert needs[bill["metadata"]["component"]["bom-ref"]] == {components[name]["bom-ref"] for name in direct}
    assert components["rich"]["bom-ref"] in needs[components["textual"]["bom-ref"]]


def test_every_file_has_a_licence() -> None:
    """By the tool of the REUSE specification."""
    done = run(sys.executable, "-m", "reuse", "--root", PROJECT, "lint", "--lines")
    assert done.returncode == 0, done.stdout + done.stderr


class _Page(HTMLParser):
    """What a page of the site links to, what it takes in, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.parts: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors.update(str(found[name]) for name in ("id", "name") if found.get(name))
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        self.parts += [str(found[name]) for name in ("src", "href") if tag != "a" and found.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = run(sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_the_site_is_the_documentation_and_its_links_arrive(site: Path) -> None:
    """Each page of docs/ is there, each link and anchor within it leads somewhere, and nothing is taken from another host."""
    pages = {path.relative_to(site).as_posix(): _Page(path.read_text()) for path in site.rglob("*.html")}
    for path in (PROJECT / "docs").rglob("*.md"):
        name = path.relative_to(PROJECT / "docs").with_suffix(".html").as_posix()
        assert name.replace("README", "index") in pages
    broken = []
    for name, page in pages.items():
        if name == "404.html":
            continue  # its links are those of the place where it is put
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            arrived = Path(os.path.normpath(target))
            found = pages.get((arrived / "index.html" if arrived.is_dir() else arrived).relative_to(site).as_posix())
            if found is None or (parts.fragment and unquote(parts.fragment) not in found.anchors):
                broken.append((name, link))
        assert not [part for part in page.parts if urlsplit(part).netloc], name
    assert broken == []
    reached = {unquote(urlsplit(link).path) for link in pages["index.html"].links}
    assert {"tour.html", "commands.html", "trust.html", "sources/qemu.html", "task-accel.html"} <= reached
