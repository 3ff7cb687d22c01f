"""The messages as data: each is found by its own words, leads to findings that exist, and is said by the real program where it can be had."""

from __future__ import annotations

import io
import pkgutil
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import wizard
from tests.tools.cache import cache as cache_directory
from tests.tools.cache import skip_loudly
from tests.tools.qemu import require_qemu
from wizard.base.finding import REGISTRY
from wizard.explain.listing import listed, ordered
from wizard.explain.matcher import Matcher
from wizard.explain.messages import by_words, every
from wizard.explain.messages.kernel_lines import LINE_MESSAGES
from wizard.explain.model import By, Message, Proof
from wizard.explain.scanning import scan
from wizard.explain.template import Template
from wizard.explain.versions import read
from wizard.host.log.lines import COMPLAINTS, LINES

for _room in pkgutil.walk_packages(wizard.__path__, "wizard."):  # every room that declares findings
    if not _room.name.startswith(("wizard.tui", "wizard.cli", "wizard.__main__")):
        import_module(_room.name)

SAMPLES = {
    "function": "0000:81:00.0", "other": "0000:81:00.1", "errno": "Invalid argument", "path": "/sys/bus/pci/devices/x",
    "args": "0x5581, 0x40000000, 0x30000000, 0xffff", "words": "abc def", "iova": "0xfd8ab000", "size": "0x1000", "event": "0x10", "stream": "0x8300",
    "address": "0x1000", "hex": "0x9", "viommu": "0x4", "device": "0000:81:00.0", "opt": "",
}  # fmt: skip
KINDS = {"number": "7", "name": "web", "hex": "0x9", "device": "0000:81:00.0", "quoted": "/sys/x", "quoted2": "/dev/vfio/devices/vfio0"}
NAMES = ("name", "property", "value", "driver", "domain", "type")


def sample(text: str) -> str:
    """A wording as a program would print it."""

    def value(place: re.Match[str]) -> str:
        return KINDS[place[2]] if place[2] else SAMPLES.get(place[1], "web" if place[1] in NAMES else "26")

    return re.sub(r"\{(\w+)(?::(\w+))?\}", value, text)


@cache
def matcher() -> Matcher:
    return Matcher()


def found(text: str) -> list[str]:
    return [hit.message.id for hit in scan(matcher(), io.BytesIO(text.encode())).hits]


@pytest.mark.parametrize("one", by_words(), ids=lambda one: one.id)
def test_each_wording_is_found_by_itself_and_in_a_log(one: Message) -> None:
    """Alone as somebody pastes it, and with what QEMU and journald put before it; a description with … for what varies leads to it too."""
    for wording in one.wordings:
        said = sample(wording)
        assert one.id in found(said) or not one.alone, said
        around = one.context[0] if one.context else "qemu-system-aarch64"
        assert one.id in found(f"2026-11-29T22:01:11.123456Z {around}: -device vfio-pci,host=0000:81:00.0: {said}"), said
        shown = re.sub(r"\{errno\}", "Invalid argument", re.sub(r"\{(?!errno)\w+(?::\w+)?\}", "…", wording))
        if "{" in wording and not one.context:
            assert found(shown), shown


@pytest.mark.parametrize("place", LINE_MESSAGES, ids=lambda place: LINE_MESSAGES[place].id)
def test_what_the_kernel_s_table_of_lines_knows_is_explained(place: int) -> None:
    """As the kernel printed it, in a large log as in a paste, and without the driver and device that spoke it."""
    kind, id = LINES[place], LINE_MESSAGES[place].id
    for line in (kind.example, f"[ 1234.567890] {kind.example}", f"Nov 29 22:01:11 host kernel: {kind.example}"):
        assert id in found(line), line
        large = (line + "\n" + "x" * 100 + "\n") * 4000
        assert id in found(large), line


def test_no_complaint_is_taken_for_an_explanation() -> None:
    for kind in LINES:
        if kind.leads_to.code in COMPLAINTS:
            assert not [id for id in found(kind.example) if kind.leads_to.code in id], kind.example


def test_ids_are_unique_and_relations_name_messages() -> None:
    ids = [one.id for one in every()]
    assert len(ids) == len(set(ids))
    known = {*ids, "event", *(re.sub(r"-\d+$", "", id) for id in ids)}
    assert not [(one.id, name) for one in every() for name in one.follows if name not in known]


def test_each_cause_is_a_finding_with_a_next_step() -> None:
    for one in every():
        for cause in one.causes:
            assert not [code for code in (cause.code, *cause.facts.split()) if code and code not in REGISTRY], one.id
            assert cause.because.endswith("."), one.id
            assert cause.fix.endswith((".", "?")), one.id
        assert one.means.endswith((".", "!")), one.id
        assert one.causes or one.fix or one.nature in ("harmless", "consequence", "state", "warning"), one.id


def test_there_are_more_than_a_hundred_of_them_from_everybody() -> None:
    assert {one.by for one in ordered()} == set(By)
    assert len(ordered()) > 300


def fixed(one: Message) -> list[str]:
    """The parts of its wordings that do not vary, as a program's format string has them."""
    return [part.strip() for wording in one.texts for part in Template(wording).fixed if len(part.strip()) > 7]


@cache
def strings_of(path: Path) -> str:
    # Formats of libvirt number their places: %1$s.
    return re.sub(rb"[^ -~]+", b"\n", path.read_bytes()).decode()


def in_program(one: Message, *programs: Path) -> list[str]:
    return [part for part in fixed(one) if not any(part in strings_of(program) for program in programs)]


@pytest.mark.qemu
@pytest.mark.parametrize("one", [one for one in every() if one.by is By.QEMU and one.proof is Proof.BINARY], ids=lambda one: one.id)
def test_qemu_has_the_words(one: Message) -> None:
    program = require_qemu().resolve().parent.parent / "usr/bin/qemu-system-aarch64"
    if not program.exists():
        program = require_qemu()
    assert not in_program(one, program)


@pytest.mark.parametrize("one", [one for one in every() if one.by is By.LIBVIRT and one.proof is Proof.BINARY], ids=lambda one: one.id)
def test_libvirt_has_the_words(one: Message) -> None:
    root = cache_directory() / "libvirt-root/usr/lib"
    programs = [*root.glob("*/libvirt.so.0"), *root.glob("*/libvirt/connection-driver/libvirt_driver_qemu.so")]
    if not programs:
        skip_loudly("no libvirt to ask for its words", "scripts/debian-tools --with libvirt unpacks one")
    assert not in_program(one, *programs)


def test_what_was_read_in_sources_is_of_the_wordings_that_there_are() -> None:
    """versions.tsv is written by scripts/message-versions: a wording that was changed since stands there for nothing."""
    wordings = {text for one in by_words() for text in one.wordings}
    assert read().keys() <= wordings
    assert {row.since for row in read().values() if row.program == "qemu"} >= {"≤ 5.2", "10.0", "10.2"}


def test_a_message_says_since_when_it_is_said() -> None:
    """hw/vfio/iommufd.c came with QEMU 9.0, the words of the legacy container are as old as the sources that were looked at."""
    since = {one.id: (one.since, one.until) for one in listed().messages}
    assert since["qemu-error-bind"] == ("8.2 < 9.2", "")
    assert since["qemu-group-not-viable"] == ("≤ 5.2", "")
    assert since["qemu-smmu-wrong-bus"] == ("10.2", "")
