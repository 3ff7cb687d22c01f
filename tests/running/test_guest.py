"""The guest's half: what ``guest.sh`` printed on the console of the accelerated VM (busybox, Linux 7.2.13), and one thing wrong each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools.hosts import NVME, planned
from wizard.base.address import Address
from wizard.facts.source import decode_recording
from wizard.host.build import host_of
from wizard.running.expected import Expected, of_plan
from wizard.running.guest import hold

TEXT = (Path(__file__).parent / "data/guest.txt").read_text()
REGION = "|0x0000000008000000 0x00000000080fffff direct\n"


@pytest.fixture(scope="module")
def expected() -> Expected:
    """The plan of that VM: one NVMe behind the first SMMU, on the first bus."""
    made = of_plan(planned(NVME), "db1.toml")
    (function,) = made.functions
    assert function.guest == Address.parse("0000:09:00.0")
    return made


def test_a_guest_that_translates(expected: Expected) -> None:
    step, findings = hold("db1", expected, host_of(decode_recording(TEXT.encode(), "guest.txt")), {})
    assert (step.answer, findings) == ("yes", [])
    assert [one.said for one in step.evidence] == ["0000:09:00.0 is below smmu3.0x000000000c000000", "the type of its group is DMA"]


FAULT = """\
|[  100.000001] arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:
|[  100.000006] arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: 0000:09:00.0 sid: 0x900 ssid: 0x0 iova: 0xdead0000 ipa: 0x0
|[  100.000007] arm-smmu-v3 arm-smmu-v3.0.auto: unpriv data read s1 "Input address caused fault" stag: 0x0
"""
WRONG: dict[str, tuple[Callable[[str], str], str, set[str]]] = {
    "iommu.passthrough=1": (lambda text: text.replace("|DMA\n", "|identity\n"), "no", {"guest-bypasses"}),
    "lazy": (lambda text: text.replace("|DMA\n", "|DMA-FQ\n"), "yes", set()),
    "no RMR": (lambda text: text.replace(REGION, ""), "partly", {"guest-without-msi-window"}),
    "no driver for the SMMU": (
        lambda text: "\n".join(line for line in text.split("\n") if "smmu3.0x" not in line and "iommu_group" not in line),
        "no",
        {"guest-without-smmu"},
    ),
    "elsewhere": (lambda text: text.replace("0000:09:00.0", "0000:0a:00.0"), "no", {"guest-function-missing"}),
    "its own faults": (lambda text: text.replace("= /dmesg\n", f"= /dmesg\n{FAULT}"), "yes", {"guest-events"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_thing_wrong(name: str, expected: Expected) -> None:
    change, answer, codes = WRONG[name]
    text = change(TEXT)
    assert text != TEXT
    step, findings = hold("db1", expected, host_of(decode_recording(text.encode(), "guest.txt")), {})
    assert step.answer == answer
    assert {finding.code for finding in findings} == codes


def test_another_feature_than_was_planned(expected: Expected) -> None:
    """The guest's kernel took 44 bits and range invalidation out of the registers."""
    vsmmus = tuple(replace(one, properties={"oas": "48", "ril": "off", "ats": "off"}) for one in expected.vsmmus)
    _, findings = hold("db1", replace(expected, vsmmus=vsmmus), host_of(decode_recording(TEXT.encode(), "guest.txt")), {})
    assert [finding.code for finding in findings] == ["guest-feature-differs"] * 2
    assert "uses oas=44 of the vSMMU smmuv3.1, and db1.toml says 48" in findings[1].what


def test_nothing_is_said_of_what_was_not_read(expected: Expected) -> None:
    """A snapshot without functions and groups says neither yes nor no."""
    cut = "\n".join(line for line in TEXT.split("\n") if not line.startswith("/ ") and "/sys/" not in line)
    step, findings = hold("db1", expected, host_of(decode_recording(cut.encode(), "guest.txt")), {})
    assert (step.answer, findings) == ("unknown", [])


def test_where_qemu_says_that_the_guest_has_it_counts(expected: Expected) -> None:
    moved = TEXT.replace("0000:09:00.0", "0000:0a:00.0")
    step, _ = hold("db1", expected, host_of(decode_recording(moved.encode(), "guest.txt")), {NVME: Address.parse("0000:0a:00.0")})
    assert step.answer == "yes"
