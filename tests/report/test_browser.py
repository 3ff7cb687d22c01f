"""A report in a real Chromium: nothing to complain of, everything there, also on paper and on a phone."""

from __future__ import annotations

import os
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.tools.cache import cache, skip_loudly
from tests.tools.hosts import host
from tests.tools.processes import LIMIT
from wizard.report import page


def chromium(*words: str, profile: Path) -> subprocess.CompletedProcess[str]:
    """What Chromium did without a window; its console goes to standard error."""
    program = cache() / "browser/bin/chromium"
    if not program.exists():
        skip_loudly("no Chromium", "scripts/debian-tools --with browser unpacks one")
    common = ["--headless", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={profile}"]
    # as root its own sandbox can't be made; the page comes from us, and is a file
    common += ["--no-sandbox"] if os.getuid() == 0 else []
    return subprocess.run([program, *common, *words], capture_output=True, text=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(host("vfio-arm64-virt-canwbs")), encoding="utf-8")
    return path


class Ids(HTMLParser):
    """The ids of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value or "" for name, value in attrs if name == "id"}


def complaints(text: str) -> list[str]:
    """What a page's console says, and what its policy refused."""
    return [line for line in text.splitlines() if "CONSOLE" in line or "Content Security Policy" in line]


def test_it_opens_whole_and_the_console_is_silent(report: Path, tmp_path: Path) -> None:
    done = chromium("--dump-dom", report.as_uri(), profile=tmp_path)
    assert done.returncode == 0, done.stderr
    assert complaints(done.stderr) == []
    dom = Ids()
    dom.feed(done.stdout)
    assert {f"f-{address.replace(':', '-')}" for address in host("vfio-arm64-virt-canwbs").functions} <= dom.found


def test_its_policy_lets_nothing_in_from_outside(report: Path, tmp_path: Path) -> None:
    """The policy works: with a script and a picture put into the same page, Chromium refuses both and says so."""
    path = tmp_path / "changed.html"
    more = "<script>document.title='ran'</script><img src='http://127.0.0.1:1/x.png'></body>"
    path.write_text(report.read_text(encoding="utf-8").replace("</body>", more), encoding="utf-8")
    done = chromium("--dump-dom", path.as_uri(), profile=tmp_path / "profile")
    assert len(complaints(done.stderr)) >= 2, done.stderr
    assert "<title>ran</title>" not in done.stdout


def test_it_is_drawn_on_a_phone_and_printed(report: Path, tmp_path: Path) -> None:
    done = chromium(f"--screenshot={tmp_path}/phone.png", "--window-size=390,844", report.as_uri(), profile=tmp_path / "a")
    assert (tmp_path / "phone.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n", done.stderr
    done = chromium(f"--print-to-pdf={tmp_path}/report.pdf", report.as_uri(), profile=tmp_path / "b")
    assert (tmp_path / "report.pdf").read_bytes()[:5] == b"%PDF-", done.stderr
    assert complaints(done.stderr) == []
