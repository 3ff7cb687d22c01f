"""What the kernel's log says that means trouble: whatever a paste made of it, as a finding with its subject, its cause and a next step."""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from wizard.arch import event as arch
from wizard.arch.event import EventType
from wizard.base.finding import Finding, Severity
from wizard.facts.keptlog import split
from wizard.facts.kmsg import lines_of
from wizard.facts.logtext import message
from wizard.facts.model import Facts, Moment
from wizard.host.build import host_of
from wizard.host.log.explain import EXPLAINED, IMPLEMENTATION_DEFINED, RESERVED, explain, harmless
from wizard.host.log.findings import findings_about, log_findings
from wizard.host.log.lines import LINES, LineKind, match, spoken
from wizard.host.log.parse import parse_log
from wizard.host.model import Host

Hosts = Callable[[str], Host]
DATA = Path(__file__).parent / "data"
LOGS = DATA / "logs"
RECORDED = (DATA / "arm64-virt.dmesg").read_text().splitlines()
A = "arm-smmu-v3 arm-smmu-v3.0.auto: "


def found(lines: list[str], facts: Facts | None = None) -> dict[str, Finding]:
    """Findings by code of a host that has this log."""
    boot, moment = split(lines)
    facts = facts or Facts()
    facts = msgspec.structs.replace(facts, log=(*facts.log, *boot), moment=msgspec.structs.replace(facts.moment, log=(*facts.moment.log, *moment)))
    return {finding.code: finding for finding in log_findings(host_of(facts))}


@pytest.mark.parametrize("kind", LINES, ids=lambda kind: kind.leads_to.code)
def test_each_kind_is_kept_recognised_and_told(kind: LineKind) -> None:
    """Its example is a line of the kernel: no other kind takes it, `record` keeps it, and it becomes the finding that the table says."""
    known = match(kind.example)
    assert known is not None
    assert known.kind is kind
    assert kind.leads_to.code in found([f"[  900.1] {kind.example}"])


def test_a_log_that_was_silent() -> None:
    """Every line but the two of a sound boot is a finding, with the function or the SMMU that it speaks of."""
    told = found((LOGS / "silent.dmesg").read_text().splitlines())
    smmu, function = "arm-smmu-v3.0.auto", "0000:01:00.0"
    assert {code: finding.subject for code, finding in told.items()} == {
        "smmu-service-failure": smmu, "smmu-commands-stuck": smmu, "ats-invalidation-timeout": smmu, "smmu-global-error": smmu,
        "vfio-probe-failed": function, "function-inaccessible": function, "function-reset-failed": function, "iommu-attach-refused": function,
        "iommu-group-refused": function,
    }  # fmt: skip
    assert "EINVAL" in told["iommu-group-refused"].what
    assert "command queue error" in told["smmu-global-error"].what  # bit 0 of GERROR


def test_both_wordings_of_a_failed_probe() -> None:
    """Until about 6.10 ``DRIVER: probe of DEVICE failed``; the SMMU is found by its place in IORT, though sysfs knows nothing of it."""
    lines = (LOGS / "probe-old.dmesg").read_text().splitlines()
    facts = Facts(acpi={"IORT": (LOGS / "probe-old.IORT.bin").read_bytes().hex()})
    old = found(lines, facts)["smmu-setup-failed"]
    assert old.subject == "smmu3.0x000000000c020000"
    assert "can't request region for resource [mem 0x0c020000-0x0c03ffff]" in old.what
    assert "EBUSY" in old.what
    new = [line.replace("arm-smmu-v3: probe of arm-smmu-v3.1.auto failed", "arm-smmu-v3 arm-smmu-v3.1.auto: probe with driver arm-smmu-v3 failed")
           for line in lines]  # fmt: skip
    assert new != lines
    assert found(new, facts) == found(lines, facts)
    for line in ("vfio-pci: probe of 0000:01:00.0 failed with error -22", "vfio-pci 0000:01:00.0: probe with driver vfio-pci failed with error -22"):
        told = spoken(line)
        assert told is not None
        assert (told.device, told.text) == ("0000:01:00.0", "probe with driver vfio-pci failed with error -22")


WORDS = (0x0000_0000_0000_0010, 0x0000_0308_8000_0007, 0x0000_0000_A50E_0800, 0x0000_0000_0000_0000)
RECORD = [f"{A}event 0x10 received:", *(f"{A}\t{word:#018x}" for word in WORDS)]
Change = Callable[[list[str]], list[str]]


def _each(change: Callable[[str], str]) -> Change:
    return lambda lines: [change(line) for line in lines]


def _wrapped(width: int) -> Change:
    """At a space, as a mail program does; what is left has no time stamp."""

    def change(lines: list[str]) -> list[str]:
        found = []
        for line in lines:
            while len(line) > width and " " in line[:width].strip():
                cut = line.rindex(" ", 0, width)
                found.append(line[:cut])
                line = line[cut + 1 :]
            found.append(line)
        return found

    return change


def _cut(width: int) -> Change:
    """In the middle of a word, as a terminal does."""
    return lambda lines: [line[at : at + width] for line in lines for at in range(0, len(line), width)]


MADE = {
    "as it was": _each(lambda line: line),
    "spaces": _each(lambda line: line.replace("\t", "     ")),
    "two spaces": _each(lambda line: line.replace("\t", "  ")),
    "one space": _each(lambda line: line.replace(": \t", ": ")),
    "syslog": _each(lambda line: line.replace("\t", "#011")),
    "kmsg": _each(lambda line: line.replace("\t", "\\x09")),
    "cat -v": _each(lambda line: line.replace("\t", "^I")),
    "quoted": _each(lambda line: "> " + line),
    "quoted twice": _each(lambda line: ">> " + line),
    "colour": _each(lambda line: "\x1b[32m" + line.replace("] ", "] \x1b[0m\x1b[33m", 1) + "\x1b[0m"),
    "colour by syslog": _each(lambda line: line.replace("arm-smmu-v3 ", "#033[1marm-smmu-v3 ", 1) + "#033[0m"),
    "indented": _each(lambda line: "    " + line),
    "carriage returns": _each(lambda line: line + "\r"),
    "wrapped at 50": _wrapped(50),
    "wrapped at 60, quoted": lambda lines: ["> " + line for line in _wrapped(60)(lines)],
    "cut at 60": _cut(60),
}
STAMPS = {
    "none": "", "dmesg": "[  900.123456] ", "journal": "Nov 29 22:00:00 host kernel: ", "iso": "2026-11-29T22:00:00,123456+00:00 ",
    "syslog": "Nov 29 22:00:00 host kernel: [  900.123456] ",
}  # fmt: skip


@pytest.mark.parametrize(("made", "stamp"), list(itertools.product(MADE, STAMPS)))
def test_words_behind_any_white_space(made: str, stamp: str) -> None:
    """CLASS IN, stalled, read of stage 1: the words are found whatever became of the tab before them."""
    lines = MADE[made]([STAMPS[stamp] + line for line in RECORD])
    boot, moment = split(lines)
    for log in (parse_log(lines), parse_log((*boot, *moment))):
        assert [(event.number, event.stream_id) for event in log.events] == [(0x10, 0)], lines
        record = log.events[0].record
        assert isinstance(record, arch.TranslationEvent), lines
        assert record.words == WORDS
        assert (record.Stall, record.STAG, record.CLASS, record.RnW, record.InputAddr) == (1, 7, 3, 1, 0xA50E0800)


def _hidden(before: str) -> Change:
    """Behind what another program put before the kernel's own stamp."""
    return lambda lines: [f"{number}{before}{line}" for number, line in enumerate(lines, 1)]


def _then(first: Change, second: Change) -> Change:
    return lambda lines: second(first(lines))


SENT = {
    "journal, json": _each(lambda line: json.dumps({"PRIORITY": "3", "_TRANSPORT": "kernel", "MESSAGE": message(line)})),
    "journal, json by bytes": _each(lambda line: json.dumps({"MESSAGE": list(message(line).encode())})),
    "journal, export": lambda lines: [part for line in lines for part in ("_TRANSPORT=kernel", f"MESSAGE={message(line)}", "")],
    "dmesg with deltas": _each(lambda line: line.replace("] ", " <    0.500000>] ", 1)),
    "short-delta": _each(lambda line: line.replace("] ", " <    0.500000>] host kernel: ", 1)),
    "numbered by grep": _hidden(":"),
    "numbered by cat": _hidden("\t"),
    "of a file, by grep": _each(lambda line: "/var/log/kern.log:" + line),
    "syslog without a tag": _each(lambda line: "Nov 29 10:00:00 host " + line),
    "items of a list": _each(lambda line: "* " + line),
    "items of a list in JSON": _each(lambda line: f"        {json.dumps(line)},"),
    "of a web page": _each(html.escape),
    **{f"cut at {width}": _cut(width) for width in (72, 80, 100)},
    **{f"cut at {width}, without stamps": _then(_each(message), _cut(width)) for width in (80, 90)},
    **{f"wrapped at {width}": _wrapped(width) for width in (64, 72, 80)},
    **{f"wrapped at {width}, quoted": _then(_wrapped(width), _each(lambda line: "> " + line)) for width in (72, 78)},
}


@pytest.mark.parametrize("sent", SENT)
def test_lines_and_events_in_whatever_form_they_are_sent(sent: str) -> None:
    """Of journalctl, dmesg, grep, Ansible, a web page, a mail or a window: each finding of the log as dmesg writes it, of the same subject."""
    silent = (LOGS / "silent.dmesg").read_text().splitlines()
    lines = [*silent, *(f"[  900.{number:06}] {text}" for number, text in enumerate(RECORD))]
    assert len(found(lines)) == 10
    assert {code: finding.subject for code, finding in found(SENT[sent](lines)).items()} == {
        code: finding.subject for code, finding in found(lines).items()
    }


def test_what_the_journal_has_of_others_is_no_line_of_the_kernel() -> None:
    said = {"_TRANSPORT": "syslog", "MESSAGE": f"{A}CMD_SYNC timeout at 0x00017d73 [hwprod 0x00017d74, hwcons 0x00017d73]"}
    assert found([json.dumps(said)]) == {}
    assert "smmu-commands-stuck" in found([json.dumps(said | {"_TRANSPORT": "kernel"})])
    for odd in ('{"MESSAGE": 7}', '{"MESSAGE": null, "_TRANSPORT": 3}', "{" * 4000, '{"MESSAGE": [300, -1]}', "[1, 2", '{"a":' * 3000):
        assert found([odd]) == {}


def test_named_lines_alone_say_what_the_words_say() -> None:
    """Linux 6.13 and later print both; a paste may hold one of them. The recording of 7.2 has both of each event."""
    both = parse_log(RECORDED).events
    named = parse_log(line for line in RECORDED if not message(line).endswith("received:") and "\t0x" not in line)
    words = parse_log(line for line in RECORDED if "event: " not in line and "unpriv" not in line)
    assert len(both) == 6
    assert [event.record for event in named.events] == [event.record for event in both] == [event.record for event in words.events]
    assert named.event_counts == words.event_counts == parse_log(RECORDED).event_counts
    assert {event.client for event in both} == {event.client for event in named.events} == {"0000:83:01.0"}


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('unpriv data write s2 "Stage 1 translation table fetch" ttd_read stag: 0x0',
         {"PnU": 0, "InD": 0, "RnW": 0, "S2": 1, "CLASS": 1, "TTRnW": 1, "Stall": 0, "STAG": 0, "IPA": 0x4080000}),
        ('priv inst read s1 "Input address caused fault" stall stag: 0x12',
         {"PnU": 1, "InD": 1, "RnW": 1, "S2": 0, "CLASS": 2, "Stall": 1, "STAG": 0x12}),
        ('unpriv data read s2 "CD fetch" stag: 0x0', {"S2": 1, "CLASS": 0}),
    ],
)  # fmt: skip
def test_fields_of_the_second_line(line: str, fields: dict[str, int]) -> None:
    first = f"{A}event: F_PERMISSION client: (unassigned sid) sid: 0x100 ssid: 0x3 iova: 0x2000 ipa: 0x4080000"
    [event] = parse_log([first, A + line]).events
    assert event.record is not None
    assert event.client is None
    assert {**event.record.fields(), **fields} == event.record.fields()
    assert (event.record.StreamID, event.record.SubstreamID, event.record.SSV) == (0x100, 3, 1)


def test_fetches_and_other_kinds_by_name() -> None:
    log = parse_log([
        f"{A}event: F_STE_FETCH client: (unassigned sid) sid: 0x100 ssid: 0x0 fetch_addr: 0x8000010000",
        f"{A}event: C_BAD_STREAMID client: (unassigned sid) sid: 0x101 ssid: 0x0",
    ])  # fmt: skip
    assert [(event.name, event.stream_id) for event in log.events] == [("F_STE_FETCH", 0x100), ("C_BAD_STREAMID", 0x101)]
    assert isinstance(log.events[0].record, arch.FetchEvent)
    assert log.events[0].record.FetchAddr == 0x80_0001_0000


def test_a_record_of_kmsg_keeps_its_tab() -> None:
    """Documentation/ABI/testing/dev-kmsg: what can't be printed is escaped, the lines behind the message are properties."""
    raw = b"3,1105,900100000,-;arm-smmu-v3 arm-smmu-v3.0.auto: \\x090x0000000000000010\n SUBSYSTEM=platform\n DEVICE=+platform:arm-smmu-v3.0.auto\n"
    assert lines_of(raw) == (1105, ["[  900.100000] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000000000000010"])
    assert lines_of(b"6,1,2,-;a \\x5c b\n") == (1, ["[    0.000002] a \\ b"])
    assert lines_of(b"nothing of the kind") == (None, [])


def test_every_kind_of_event_is_explained_by_itself() -> None:
    """IHI 0070 7.3: none has the cause of another."""
    assert set(EXPLAINED) == set(EventType)
    assert len({one.why for one in EXPLAINED.values()}) == len(EventType)
    assert explain(0xE3) is IMPLEMENTATION_DEFINED
    assert arch.name_of(0xE3) == "IMPDEF_EVENT3"
    assert explain(0x7E) is RESERVED
    lines = (LOGS / "event-kinds.dmesg").read_text().splitlines()
    told = [finding for finding in log_findings(host_of(Facts(log=tuple(lines)))) if finding.code == "smmu-events"]
    assert len(told) == len({finding.why for finding in told}) == sum("received:" in line for line in lines)
    assert {finding.severity for finding in told if "E_PAGE_REQUEST" in finding.what} == {Severity.INFO}


def _event(number: int, sid: int, *words: int) -> list[str]:
    return [f"{A}event {number:#04x} received:", *(f"{A}\t{word:#018x}" for word in (sid << 32 | number, *words))]


READ, STALL, S2, IN, TTD = 1 << 35, 1 << 31, 1 << 39, 2 << 40, 1 << 40


def test_only_reads_of_nothing_that_are_not_stalled_are_harmless() -> None:
    assert harmless(parse_log(_event(0x10, 0x100, READ | IN, 0, 0)).events)
    for number, word, address in (
        (0x10, READ | IN | STALL, 0),
        (0x13, READ | IN, 0),
        (0x10, READ | IN, 0x1000),
        (0x10, IN, 0),
        (0x10, READ | TTD, 0),
    ):
        log = parse_log(_event(number, 0x100, word, address, 0))
        assert not harmless(log.events)
    stalled = found(_event(0x10, 0x100, READ | IN | STALL, 0, 0))["smmu-events"]
    assert "stalled" in stalled.what
    assert "harmless" not in stalled.why.replace("not harmless", "")


def test_fields_are_told_and_a_table_fault_is_told_apart() -> None:
    told = found(_event(0x10, 0x100, READ | TTD | S2, 0xDEAD0000, 0x4008_0000))["smmu-events"]
    assert "read, data, unprivileged, stage 2, CLASS TTD, at 0xdead0000, IPA 0x40080000" in told.what
    assert "translation table" in told.why
    reason = found(_event(0x21, 0x100, 0x1234, 0, 0))["smmu-events"]
    assert "reason 0x1234" in reason.what


def test_a_bad_stream_id_is_that_of_a_function_or_of_nobody(host: Hosts) -> None:
    """The kernel left a known function out, or DMA has an ID that no function has: two causes, two steps, and both are aborted."""
    facts = msgspec.structs.replace(host("arm64-virt-canwbs").facts, moment=Moment())
    known = found(_event(2, 0x1400, 0, 0, 0), facts)["smmu-events"]
    assert (known.subject, "0000:14:00.0" in known.what, "0000:14:00.0" in known.fix) == ("smmu3.0x000000000c000000", True, True)
    nobody = found(_event(2, 0x1777, 0, 0, 0), facts)["smmu-events"]
    assert "no known function" in nobody.what
    assert "no function of this host has" in nobody.why
    assert nobody.fix != known.fix
    # IORT of this host gives 0x1001 to a place of segment 0 where nothing is.
    assert "0000:10:00.1" in found(_event(2, 0x1001, 0, 0, 0), facts)["smmu-events"].what


def test_a_bad_stream_id_is_nobodys_only_where_all_were_read(host: Hosts) -> None:
    """Without IORT, or with a function below the SMMU whose StreamID it does not tell, the device that is there may be it."""
    facts = msgspec.structs.replace(host("arm64-virt-canwbs").facts, moment=Moment())
    told = found(_event(2, 0x1400, 0, 0, 0), msgspec.structs.replace(facts, acpi={}))["smmu-events"]
    assert "whose it is was not read" in told.what
    assert "no function of this host has" not in told.why
    assert "not every StreamID was read" in told.why
    assert "aborts the DMA" in told.why
    bridge = {"config": "", "config_length": 0}  # what it adds to the DMA below it is unknown then
    functions = tuple(msgspec.structs.replace(f, **bridge) if f.address == "0000:82:00.0" else f for f in facts.functions)
    assert "was not read" in found(_event(2, 0x1777, 0, 0, 0), msgspec.structs.replace(facts, functions=functions))["smmu-events"].what


def test_events_are_counted_by_function_and_kind(host: Hosts) -> None:
    facts = msgspec.structs.replace(host("arm64-virt-canwbs").facts, moment=Moment())
    lines = [*_event(0x10, 0x1400, READ | IN, 0x1000, 0) * 5, *_event(0x13, 0x1400, IN, 0x1000, 0), *_event(0x10, 0x1100, IN, 0x1000, 0) * 2]
    boot, moment = split(lines)
    made = host_of(msgspec.structs.replace(facts, moment=Moment(log=(*boot, *moment))))
    told = [finding.what for finding in log_findings(made) if finding.code == "smmu-events"]
    assert [what.split(" for ")[0].split("reported ")[1] for what in told] == [
        "2 events 0x10 F_TRANSLATION", "5 events 0x10 F_TRANSLATION", "1 event 0x13 F_PERMISSION",
    ]  # fmt: skip
    assert {finding.code for finding in findings_about(made, ["0000:14:00.0"])} == {"smmu-events"}
    assert len(findings_about(made, ["0000:14:00.0"])) == 2


def test_the_command_that_was_refused_is_named() -> None:
    """Seen on an emulated host with two functions of one group behind an accelerated vSMMU (sources: problem-31)."""
    told = found([f"{A}CMDQ error (cons 0x01000013): Illegal command", f"{A}skipping command in error state:",
                  f"{A}\t0x0000090000000003", f"{A}\t0x0000000000000001"])  # fmt: skip
    assert "CMD_CFGI_STE of StreamID 0x9" in told["smmu-command-illegal"].what


def test_a_flood_of_one_line_is_counted() -> None:
    lines = [f"{A}CMD_SYNC timeout at {number:#010x} [hwprod 0x00000023, hwcons 0x0000001e]" for number in range(3000)]
    log = parse_log(lines)
    [trouble] = log.troubles
    assert (trouble.count, len(trouble.texts)) == (3000, 4)
    assert "(3000 times)" in found(lines)["smmu-commands-stuck"].what


def test_lines_of_a_sound_host_are_no_trouble() -> None:
    lines = [line for line in RECORDED if "event" not in line and "unpriv" not in line and "\t0x" not in line]
    assert parse_log(lines).troubles == ()
    assert parse_log(["vfio-pci 0000:01:00.0: not ready 1023ms after FLR; waiting", "vfio-pci 0000:01:00.0: enabling device (0000 -> 0002)",
                      "vfio_iommu_type1: module verification failed: signature and/or required key missing - tainting kernel",
                      "vfio-pci 0000:01:00.0: resetting", "vfio-pci 0000:01:00.0: reset done", "VFIO - User Level meta-driver version: 0.3",
                      f"{A}msi_domain absent - falling back to wired irqs"]).troubles == ()  # fmt: skip


def test_passthrough_by_the_log_alone(host: Hosts) -> None:
    line = ["[    0.5] iommu: Default domain type: Passthrough (set via kernel command line)"]
    facts = host("arm64-virt-canwbs").facts
    quiet = msgspec.structs.replace(facts, kernel=msgspec.structs.replace(facts.kernel, cmdline="quiet"))
    assert "iommu-passthrough-default" in found(line, quiet)
    told = msgspec.structs.replace(facts, kernel=msgspec.structs.replace(facts.kernel, cmdline="iommu.passthrough=1"))
    assert "iommu-passthrough-default" not in found(line, told)  # `iommu-passthrough` says it


def test_an_old_iommu_map_hole_names_the_function(host: Hosts) -> None:
    told = found(["[    1.0] OF: /pcie@10000000: no iommu-map translation for id 0x1400 on (null)"], host("arm64-virt-canwbs").facts)
    assert told["iommu-map-hole"].subject == "0000:14:00.0"
