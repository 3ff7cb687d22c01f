"""The live source on the machine that the tests run on, whatever it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from tests.tools.processes import LIMIT
from wizard.facts.live import read_live
from wizard.facts.pseudonym import secrets_of
from wizard.facts.redact import digest, redact
from wizard.facts.snapshot import decode, encode
from wizard.facts.tree import DirectoryTree

SECRETS = secrets_of(DirectoryTree("/", live=True), live=True)


def record() -> bytes:
    """What `record` writes."""
    return encode(redact(read_live(), SECRETS)[0])


def outside_moment(snapshot: bytes) -> bytes:
    """The bytes of a snapshot up to its last field, which is ``moment``."""
    head, found, _ = snapshot.rpartition(b'\n "moment": {')
    assert found
    return head


def test_two_records_are_equal_byte_for_byte_outside_moment() -> None:
    """Somebody compares records of a host with cmp, or keeps them in git."""
    assert outside_moment(record()) == outside_moment(record())


def test_a_record_knows_the_live_host() -> None:
    """The digest of what is live is the digest of what was recorded of it."""
    assert digest(read_live()) == digest(decode(record(), "x"))


def test_functions_are_those_of_lspci() -> None:
    """Every function that lspci shows, with its ids, class and driver; nothing else."""
    if shutil.which("lspci") is None:
        pytest.skip("lspci is not installed")
    listed = subprocess.run(["lspci", "-Dnnk"], capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    expected = {}
    for paragraph in re.split(r"\n(?=\S)", listed.strip()):
        if match := re.match(r"(\S+) .*?\[([0-9a-f]{4})\]: .*\[([0-9a-f]{4}):([0-9a-f]{4})\]", paragraph):
            driver = re.search(r"Kernel driver in use: (\S+)", paragraph)
            expected[match[1]] = (match[2], match[3], match[4], driver[1] if driver else None)
    found = {f.address: (f.class_[2:6], f.vendor[2:], f.device[2:], f.driver) for f in read_live().functions}
    assert found == expected


def test_figures_are_those_of_proc() -> None:
    """Memory and CPUs as the kernel says them."""
    facts = read_live()
    with open("/proc/meminfo", encoding="ascii") as file:
        total = re.search(r"MemTotal:\s+(\d+) kB", file.read())
    assert total
    assert facts.memory_total == int(total[1]) * 1024
    assert facts.cpus == os.cpu_count()
    assert facts.kernel.release == os.uname().release


def test_nothing_of_who_we_are_is_in_a_record() -> None:
    """Machine-id and host name of this very machine."""
    text = record().decode()
    assert SECRETS.key is None or SECRETS.key.decode() not in text
    assert all(name not in json.loads(text)["kernel"].get("cmdline", "") for name in SECRETS.hosts)
