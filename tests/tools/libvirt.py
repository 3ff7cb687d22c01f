"""A real libvirt, asked what it makes of domain XML."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.tools.cache import cache, skip_loudly
from tests.tools.processes import LIMIT


@dataclass(frozen=True)
class Native:
    """libvirt's answer to one domain.

    ``invalid`` is what its RELAX NG schemas refuse (empty when valid), ``refused`` why it made no command line (empty when it did), and
    ``argv`` the words of the command line, without the environment that libvirt puts in front.
    """

    invalid: str
    refused: str
    argv: tuple[str, ...]


def require_libvirt() -> Path:
    """The root with libvirt; skips loudly when it can't be used here."""
    root = cache() / "libvirt-root"
    if not (root / "version").exists():
        skip_loudly("no libvirt", "scripts/debian-tools --with libvirt unpacks one")
    if os.geteuid() != 0:
        skip_loudly("libvirt needs a mount namespace", "run the tests as root")
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False, timeout=LIMIT).returncode:
        skip_loudly("libvirt needs a mount namespace", "allow this container one (CAP_SYS_ADMIN)")
    return root


def schemas() -> Path:
    """The directory of libvirt's RELAX NG schemas (``domain.rng``); needs no root."""
    found = cache() / "libvirt-root/usr/share/libvirt/schemas"
    if not found.exists():
        skip_loudly("no libvirt schemas", "scripts/debian-tools --with libvirt unpacks them")
    return found


def native(domains: Mapping[str, str], functions: Sequence[str]) -> dict[str, Native]:
    """libvirt's answer to each domain XML, by the same names (plain words).

    ``functions`` are those that the domains assign: stand-ins are made for them. ``RuntimeError`` when libvirtd does not answer.
    """
    root = require_libvirt()
    with tempfile.TemporaryDirectory(prefix="libvirt-") as scratch:
        work = Path(scratch)
        for name, xml in domains.items():
            (work / f"{name}.xml").write_text(xml, encoding="utf-8")
        script = Path(__file__).parent / "libvirt-native.sh"
        done = subprocess.run([script, root, work, *functions], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(f"libvirt could not be asked: {done.stderr.strip()}")
        return {name: _answer(work, name) for name in domains}


def _answer(work: Path, name: str) -> Native:
    invalid, refused = (int(word) for word in (work / f"{name}.status").read_text().split())
    said = (work / f"{name}.argv").read_text(encoding="utf-8").strip()
    words = [] if refused else shlex.split(said)
    while words and "=" in words[0].split("/")[0]:
        words.pop(0)
    return Native((work / f"{name}.valid").read_text(encoding="utf-8").strip() if invalid else "", said if refused else "", tuple(words))
