"""Which file is a kernel's whole configuration, so that its silence is a "not set": the form is that of conf_write() (scripts/kconfig/confdata.c)."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.host.conftest import host_from
from wizard.facts.model import Kernel
from wizard.facts.record import from_tree
from wizard.facts.source import open_tree
from wizard.host.build import host_of
from wizard.host.doctor import diagnose

RELEASE = "7.2.13-armhost"
HEAD = f"#\n# Automatically generated file; DO NOT EDIT.\n# Linux/arm64 {RELEASE} Kernel Configuration\n#\n"
OWN = "CONFIG_PCI=y\nCONFIG_IOMMUFD=m\n# CONFIG_VFIO_NOIOMMU is not set\n"
# What matters here is more of a real kernel's options than these: PCI's own, ACPI, huge pages.
OTHERS = "".join(f"CONFIG_PCI_{n}=y\n" for n in range(30))
DRIVERS = "".join(f"CONFIG_DRIVER_{n}=m\n" if n % 3 else f"# CONFIG_DRIVER_{n} is not set\n" for n in range(3000))
BEFORE_53 = HEAD + OWN + OTHERS + DRIVERS  # without "# end of"
END = "\n#\n# Kernel hacking\n#\nCONFIG_PRINTK_TIME=y\n# end of Kernel hacking\n\nCONFIG_IO_URING_ZCRX=y\n"
WHOLE = f"{HEAD}{OWN}{OTHERS}\n#\n# Device Drivers\n#\n{DRIVERS}# end of Device Drivers\n{END}"

PARTS = {
    "head alone and five lines": HEAD + OWN,
    "head of old kernels and five lines": HEAD.replace(f"# Linux/arm64 {RELEASE} Kernel Configuration\n", "") + OWN,
    "chosen options without the head": OWN + DRIVERS,
    "cut in the drivers": WHOLE[: WHOLE.index("CONFIG_DRIVER_2500")] + "\n# end of Some menu\n",
    "cut behind the drivers": WHOLE[: WHOLE.index("\n#\n# Kernel hacking")],
}


def kernel(directory: Path, place: str, data: bytes) -> Kernel:
    path = directory / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    (directory / "sys").mkdir(exist_ok=True)
    (directory / "uname").write_text(f"Linux armhost {RELEASE} #1 SMP aarch64 GNU/Linux\n")
    return from_tree(open_tree(str(directory))).kernel


PLACES = ["kernel-config", f"boot/config-{RELEASE}", f"lib/modules/{RELEASE}/config", "proc/config.gz"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", [WHOLE, BEFORE_53, WHOLE.replace("# Automatically generated file; DO NOT EDIT.\n", "")])
def test_the_silence_of_a_whole_configuration_is_not_set(tmp_path: Path, place: str, text: str) -> None:
    found = kernel(tmp_path, place, gzip.compress(text.encode()) if place.endswith(".gz") else text.encode())
    assert not found.config_partial
    assert (found.option("CONFIG_IOMMUFD"), found.option("CONFIG_VFIO_NOIOMMU"), found.option("CONFIG_VFIO_PCI")) == ("m", "n", "n")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("part", PARTS)
def test_the_silence_of_part_of_one_is_no_answer(tmp_path: Path, place: str, part: str) -> None:
    text = PARTS[part].encode()
    found = kernel(tmp_path, place, gzip.compress(text) if place.endswith(".gz") else text)
    assert found.config_partial
    assert (found.option("CONFIG_IOMMUFD"), found.option("CONFIG_VFIO_NOIOMMU"), found.option("CONFIG_VFIO_PCI")) == ("m", "n", None)


def test_a_packed_configuration_that_was_cut_is_part_of_one(tmp_path: Path) -> None:
    packed = gzip.compress(WHOLE.replace(END, "").replace("# end of Device Drivers\n", "").encode())
    assert kernel(tmp_path, "proc/config.gz", packed[:-20]).config_partial


def test_a_snapshot_of_a_few_options_says_nothing_by_its_silence_whatever_it_calls_itself() -> None:
    few = Kernel(config={"CONFIG_IOMMUFD": "m"}, config_partial=False)
    assert (few.option("CONFIG_IOMMUFD"), few.option("CONFIG_VFIO_PCI")) == ("m", None)
    assert Kernel(config=None).option("CONFIG_VFIO_PCI") is None


def test_doctor_takes_nothing_for_missing_that_part_of_a_configuration_leaves_out(tmp_path: Path) -> None:
    """A report of five lines: neither kernel-lacks nor no-vfio, and what it leaves open is named."""
    from msgspec.structs import replace

    facts = host_from("arm64-virt-canwbs").facts
    unprobed = tuple(replace(info, viommu=None, viommu_cmdqv=None) for info in facts.hw_info)
    for text, expected in ((HEAD + OWN, {"not-looked-at", "kernel-config-unknown"}), (WHOLE, {"no-vfio", "kernel-lacks"})):
        own = kernel(tmp_path, f"boot/config-{RELEASE}", text.encode())
        host = host_of(replace(facts, hw_info=unprobed, kernel=own))
        told = {item.finding.code: item.finding.what for area in diagnose(host).areas for item in area.findings}
        assert expected <= set(told)
        assert {"not-looked-at", "no-vfio", "kernel-lacks", "kernel-config-unknown"} & set(told) == expected
