"""What is pasted: a message, a log, a screen. Which message is the first cause, which follow from it, what they carry, and what is not guessed."""

from __future__ import annotations

import io
import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from wizard.explain.matcher import Matcher
from wizard.explain.reading import PIECE
from wizard.explain.report import MessageView, Report, explain, of_record

DATA = Path(__file__).parent / "data"
ATTACH = (
    "qemu-system-aarch64: -device vfio-pci,host=0000:81:00.0,id=dev1,iommufd=iommufd0: vfio 0000:81:00.0: "
    "[iommufd=24] error attach 0000:81:00.0 (26) pasid 0 to id=9: Invalid argument"
)
CLOSED = "error: internal error: QEMU unexpectedly closed the monitor (vm='web'): 2026-11-29T22:01:11.123456Z "


@cache
def matcher() -> Matcher:
    return Matcher()


def report(text: str | bytes) -> Report:
    return explain(io.BytesIO(text.encode() if isinstance(text, str) else text), matcher=matcher())


def first(found: Report) -> MessageView:
    assert found.first is not None
    return found.messages[found.first]


def rows() -> list[tuple[str, set[str]]]:
    lines = (DATA / "messages.tsv").read_text(encoding="utf-8").splitlines()[1:]
    found = []
    for text, _, _, codes in (line.split("\t") for line in lines):
        if "(EPERM)" in codes and "not permitted" not in text:
            codes = "none"
        found.append((text, {code.strip() for code in codes.split("(")[0].split(",")} - {"none"}))
    return found


@pytest.mark.parametrize(("text", "codes"), rows(), ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_the_commonest_messages_lead_to_their_findings(text: str, codes: set[str]) -> None:
    """As an administrator's list has them, with N and … for what varies."""
    found = report(text)
    assert found.messages, text
    named = {code for message in found.messages for cause in message.causes for code in (cause.finding, *cause.also)}
    assert not codes or codes & named, (text, named)


def test_unrelated_lines_are_counted_and_not_explained() -> None:
    lines = (DATA / "unrelated.log").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 40
    assert sum(bool(report(line).messages) for line in lines) <= 1
    whole = report("\n".join(lines))
    assert whole.unknown >= len(lines) - 1


def test_a_domain_s_log_names_the_first_cause_and_what_follows() -> None:
    log = (
        "2026-11-29 22:01:10.000+0000: starting up libvirt version: 12.8.0\n"
        "2026-11-29T22:01:10.9Z qemu-system-aarch64: warning: VFIO dma-buf not supported in kernel, using mmap fallback, P2P DMA will not work\n"
        f"2026-11-29T22:01:11.1Z {ATTACH}\n"
        "2026-11-29T22:01:11.2Z qemu-system-aarch64: Unable to attach the default HW pagetable: hiodi devid 0x2\n"
        "2026-11-29 22:01:11.500+0000: shutting down, reason=failed\n"
    )
    found = report(log)
    assert first(found).id == "qemu-error-attach"
    assert {message.id: message.role for message in found.messages} == {
        "qemu-dmabuf": "harmless", "qemu-error-attach": "first cause", "qemu-default-hwpt": "follows",
    }  # fmt: skip
    assert (found.lines, found.recognised, found.unknown) == (5, 3, 2)
    parts = {part.name: (part.value, part.means) for part in first(found).parts}
    assert parts["function"][0] == "0000:81:00.0"
    assert parts["errno"][1] == "EINVAL (Invalid argument)"


def test_a_time_out_follows_from_the_command_error_before_it() -> None:
    smmu = "arm-smmu-v3 arm-smmu-v3.0.auto: "
    log = (
        f"[ 10.0] {smmu}CMDQ error (cons 0x0300b1b7): ATC invalidate timeout\n"
        f"[ 11.0] {smmu}CMD_SYNC timeout at 0x00017d73 [hwprod 0x00017d74, hwcons 0x00017d73]\n"
    )
    found = report(log)
    assert first(found).causes[0].finding == "ats-invalidation-timeout"
    assert [message.role for message in found.messages] == ["first cause", "follows"]
    assert first(report(log.splitlines()[1])).causes[0].finding == "smmu-commands-stuck"  # alone it is one


@pytest.mark.parametrize(
    "pasted",
    [
        ATTACH,
        CLOSED + ATTACH,
        f"root@host:~# virsh start web\n> {CLOSED}\n> {ATTACH[:100]}\n> {ATTACH[100:]}\n",  # quoted, and cut in the middle of a word
        "\x1b[31m" + ATTACH.replace("error attach", "\x1b[1merror\x1b[0m attach") + "\x1b[0m",
        "  'message': \"" + CLOSED.replace("'", "\\'") + ATTACH + '"',
        json.dumps({"PRIORITY": "3", "SYSLOG_IDENTIFIER": "libvirtd", "MESSAGE": CLOSED + "\n" + ATTACH}),
        json.dumps({"SYSLOG_IDENTIFIER": "libvirtd", "MESSAGE": list((CLOSED + ATTACH).encode())}),
        json.dumps({"component": "virt-launcher", "level": "error", "msg": CLOSED + ATTACH, "subcomponent": "libvirt"}),
        f"Warning SyncFailed 7s virt-handler server error. command SyncVMI failed: \"LibvirtError(Code=1, Domain=10, Message='{CLOSED}{ATTACH}')\"",
        f"Nov 29 22:01:11 host libvirtd[812]: {CLOSED}{ATTACH}\r",
    ],
    ids=["alone", "libvirt", "quoted-and-cut", "colour", "yaml", "journal", "journal-bytes", "virt-launcher", "event", "syslog"],
)
def test_whatever_a_screen_made_of_it(pasted: str) -> None:
    found = report(pasted)
    assert first(found).id == "qemu-error-attach"
    assert first(found).causes[0].finding == "group-shared"
    assert all(message.role in ("first cause", "follows") for message in found.messages)


def translated() -> list[tuple[str, str]]:
    """Error and words, as strerror(3) of glibc's locales gives them (gettext's libc.mo of Debian's libc-l10n)."""
    return [(name, words) for name, words in (line.split("\t") for line in (DATA / "strerror.tsv").read_text(encoding="utf-8").splitlines())]


@pytest.mark.parametrize(("name", "words"), [*translated(), ("EINVAL", "Invalid argument"), ("EBUSY", "Device or resource busy")])
def test_the_error_in_another_language_decides_too(name: str, words: str) -> None:
    found = first(report(f"[iommufd=24] error attach 0000:81:00.0 (26) to id=9: {words}"))
    codes = {cause.finding for cause in found.causes}
    assert ("smmus-joined" in codes) is (name == "EINVAL")
    assert ("group-in-two-vms" in codes) is (name == "EBUSY")
    assert next(part for part in found.parts if part.name == "errno").means.startswith(name)


def test_an_event_s_raw_words() -> None:
    """Words of 32 bits, of 64 bits as the kernel prints them, and too few of them (IHI 0070 7.3.13)."""
    long = of_record(["0x0000830000000010", "0x0000020800000000", "0x00000000fd8aba44", "0x0000000000000000"])
    short = of_record(["0x10", "0x8300", "0x0", "0x208", "0xfd8aba44", "0x0", "0x0", "0x0"])
    for found in (long, short):
        event = first(found).event
        assert event is not None
        assert (event.name, event.fields["StreamID"], event.fields["InputAddr"]) == ("F_TRANSLATION", "0x8300", "0xfd8aba44")
    assert "64 of its 256 bits" in first(of_record(["0x10", "0x8300"])).means


def test_event_records_of_a_log_are_joined() -> None:
    smmu = "[ 5.1] arm-smmu-v3 arm-smmu-v3.0.auto: "
    record = ["event 0x10 received:", "\t0x0000830000000010", "\t0x0000020800000000", "\t0x00000000fd8aba44", "\t0x0000000000000000"]
    found = report("\n".join(smmu + line for line in record * 3))
    assert len(found.messages) == 1
    assert found.messages[0].count == 3
    assert found.messages[0].event is not None
    assert found.messages[0].event.fields["StreamID"] == "0x8300"
    assert found.unknown == 0


def test_what_only_says_that_something_failed_is_no_cause() -> None:
    found = report("error: Failed to start domain 'web'\n")
    assert first(found).nature == "consequence"
    assert not first(found).causes


def test_what_cannot_be_read_is_bounded() -> None:
    """Binary, one line without an end, a million messages: an answer each time, and a message inside is found."""
    assert not report(bytes(range(256)) * 2000).messages
    endless = b"x" * (3 * PIECE) + ATTACH.encode() + b"y" * (5 << 20)
    assert [message.id for message in report(endless).messages] == ["qemu-error-attach"]
    split = b"z" * (PIECE - 60) + ATTACH.encode() + b"z" * PIECE  # across the end of a piece
    assert first(report(split)).id == "qemu-error-attach"
    many = b"".join(b"[iommufd=%d] error attach 0000:81:00.0 (26) to id=9: Invalid argument\n" % number for number in range(20000))
    found = report(many)
    assert found.lines == found.recognised == 20000
    assert sum(message.count for message in found.messages) == 20000
    assert found.more
    assert len(found.messages) <= 2001
    assert first(report(b"\xff\xfe error bind device fd=1 to iommufd=2: Operation not permitted \xc3\x28")).id == "qemu-error-bind"


def reports() -> list[tuple[str, str, str]]:
    parts = [part for name in ("reports.txt", "reports2.txt") for part in ("\n" + (DATA / name).read_text(encoding="utf-8")).split("\n== ")[1:]]
    return [(*head.split(" | "), text) for head, _, text in (part.partition("\n") for part in parts)]  # type: ignore[misc]


@pytest.mark.parametrize(("where", "code", "text"), reports(), ids=[where for where, _, _ in reports()])
def test_what_people_have_reported_leads_to_the_cause_that_they_found(where: str, code: str, text: str) -> None:
    """Public reports: the lines that they quote, and the cause that the thread came to (a word of what it means, where no finding says it)."""
    found = first(report(text))
    assert found.causes, found
    likely = found.causes[0]
    assert code in (likely.finding, *likely.also) or code in found.means, (found.id, likely)


def test_a_boot_s_noise_is_no_cause() -> None:
    """A recorded host that works: bridges that found no room at first are harmless, a kernel's line of another function is not why a VM fails."""
    boot = (Path(__file__).parents[1] / "host/data/arm64-virt.dmesg").read_text(encoding="utf-8")
    found = report(boot)
    assert not [message.id for message in found.messages if message.id == "kernel-bar-assign"]
    refused = report(boot + "\nqemu-system-aarch64: vfio 0000:14:00.0: IOMMU_VIOMMU_ALLOC failed: Operation not supported\n")
    assert first(refused).id == "qemu-viommu-alloc"


def test_a_long_log_counts_each_message_as_often_as_it_stands_there() -> None:
    """Lines that differ in numbers alone are told apart by what they name, whatever their order, and an event between them is still one."""
    sent: Counter[tuple[str, str]] = Counter()
    lines = []
    for turn in range(3000):
        function = f"0000:{0x81 + turn % 3:02x}:00.0"
        smmu = f"arm-smmu-v3.{turn % 2}.auto"
        lines.append(f"[{turn:5}.{turn % 10}] vfio-pci {function}: not ready {65535 + turn % 7}ms after FLR; giving up")
        sent["kernel-function-reset-failed", function] += 1
        lines.append(f"[{turn:5}.{turn % 10}] arm-smmu-v3 {smmu}: CMD_SYNC timeout at 0x{turn:08x} [hwprod 0x{turn + 1:08x}, hwcons 0x{turn:08x}]")
        sent["kernel-smmu-commands-stuck", smmu] += 1
        if turn % 10 == 0:
            head = f"[{turn:5}.1] arm-smmu-v3 {smmu}: "
            lines += [f"{head}event 0x10 received:", *(f"{head}\t0x{word:016x}" for word in (0x0000810000000010, 0x20000000000, turn << 12, 0))]
            sent["event", "0x8100"] += 1
        lines.append(f"[{turn:5}.2] foo {function}: nothing that is known, CMDQ {turn % 9}")
    report = explain(io.BytesIO("\n".join(lines).encode() + b"\n"))
    said: Counter[tuple[str, str]] = Counter()
    for one in report.messages:
        named = {part.name: part.value for part in one.parts}
        name = named.get("stream", "") if one.event is not None else named.get("device", named.get("function", ""))
        said["event" if one.event is not None else one.id, name] += one.count
    assert said == sent
    assert (report.lines, report.unknown) == (len(lines), 3000)


def test_more_different_messages_than_are_told_apart_are_counted() -> None:
    """Each names another bus: no more than a few hundred are kept, and the count is still right."""
    lines = [f"qemu-system-aarch64: -device arm-smmuv3,primary-bus=p{number}: Device 'p{number}' not found" for number in range(5000)]
    report = explain(io.BytesIO("\n".join(lines).encode()))
    assert report.more
    assert (sum(one.count for one in report.messages), report.recognised) == (5000, 5000)


def judged() -> list[tuple[str, str, str]]:
    lines = (DATA / "judged.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [(text, wanted, source) for text, wanted, source in (line.split("\t") for line in lines)]


@pytest.mark.parametrize(("text", "wanted", "source"), judged(), ids=lambda value: value[:40])
def test_messages_of_sources_lead_where_the_source_says(text: str, wanted: str, source: str) -> None:
    """As the programs print them, out of the code that prints them: the finding that is most likely behind it, or words of what it means."""
    found = first(report(text)) if wanted != "harmless" else report(text).messages[0]
    likely = [code for cause in found.causes[:1] for code in (cause.finding, *cause.also)]
    assert wanted in (*likely, found.nature) or wanted in found.means or wanted in found.fix, (source, found.id, likely)


def test_other_unrelated_lines_are_not_explained_either() -> None:
    """sshd, ext4, postgres, nginx, docker, systemd, kubelet, ipmi and their like: words that sound alike are no match."""
    found = report((DATA / "unrelated2.log").read_bytes())
    assert (found.lines, found.recognised, found.messages) == (40, 0, ())
