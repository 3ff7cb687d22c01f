"""Inputs made to fill the machine: each ends with its documented status, within time and 512 MiB, as the command itself."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.guard import MEMORY
from tests.tools.cache import PROJECT
from tests.tools.usage import measure

HEAD = '{"format":"smmu-wizard-snapshot","version":1,'
CPU = 40  # seconds of processor time


def _array(name: str, item: str, count: int) -> Callable[[Path], None]:
    return _text(lambda: f'{HEAD}"{name}":[' + ",".join([item] * count) + "]}")


def _text(text: Callable[[], str]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_text(text())

    return make


def _gz(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(200):
            file.write(bytes(1 << 20))


def _xz(path: Path) -> None:
    with lzma.open(path, "wb", preset=0) as file:
        for _ in range(200):
            file.write(b" " * (1 << 20))


def _beside(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(f'{HEAD}"log":["'.encode())
        for _ in range(200):
            file.write(b"x" * (1 << 20))
        file.write(b'"]}')


def _members(path: Path) -> None:
    header = tarfile.TarInfo("sys/a").tobuf()
    with lzma.open(path, "wb", preset=0) as file:
        for _ in range(600):
            file.write(header * 1000)


def _files(size: int, count: int, end: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with tarfile.open(path, "w:xz", preset=0) as archive:
            for number in range(count):
                member = tarfile.TarInfo(f"sys/{number}{end}")
                member.size = size
                archive.addfile(member, io.BytesIO(b"x" * size))

    return make


BOMBS: dict[str, tuple[Callable[[Path], None], tuple[str, ...], int]] = {
    "functions.json": (_array("functions", "0", 30_000_000), ("list", "--replay"), 3),
    "groups.json": (_array("groups", "{}", 20_000_000), ("list", "--replay"), 3),
    "log.json": (_array("log", '"a"', 4_000_000), ("list", "--replay"), 0),
    "numbers.json": (_array("unknown", "1", 30_000_000), ("list", "--replay"), 3),
    "cases.json": (_text(lambda: "[" + ",".join(["1"] * 30_000_000) + "]"), ("translate",), 3),
    "zeros.json.gz": (_gz, ("list", "--replay"), 3),
    "beside.json.gz": (_beside, ("list", "--replay"), 3),
    "blanks.json.xz": (_xz, ("list", "--replay"), 3),
    "members.tar.xz": (_members, ("list", "--root"), 3),
    "files.tar.xz": (_files(1 << 20, 300, ""), ("list", "--root"), 3),
    "json.tar.xz": (_files(60 << 20, 5, ".json"), ("list", "--root"), 3),
    "dotted.toml": (_text(lambda: "a." * 500_000 + "a=1\n"), ("--demo", "check"), 3),
    "table.toml": (_text(lambda: "[" + "a." * 500_000 + "a]\n"), ("--demo", "check"), 3),
    "keys.toml": (_text(lambda: "".join(f"a{number}=1\n" for number in range(90_000))), ("--demo", "check"), 3),
    "policy.toml": (_text(lambda: "a." * 500_000 + "a=1\n"), ("--demo", "list", "--policy"), 3),
    "digits.toml": (_text(lambda: "rule=" + "9" * 5000), ("--demo", "list", "--policy"), 3),
    "hex.toml": (_text(lambda: "memory=0x" + "f" * 100_000), ("--demo", "check"), 3),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_made_to_fill_the_machine_is_refused(name: str, tmp_path: Path) -> None:
    make, words, status = BOMBS[name]
    path = tmp_path / name
    make(path)
    used = measure(sys.executable, "-m", "wizard", *words, path, cwd=PROJECT)
    path.unlink()
    assert used.status == status, used.said
    assert not status or len(used.said.strip().splitlines()) == 2, used.said
    assert used.peak < MEMORY, f"{used.peak >> 20} MiB"
    assert used.processor < CPU
