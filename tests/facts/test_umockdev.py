"""umockdev recordings: the real programs play back and record what this program writes and reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.tools.processes import LIMIT
from wizard.base.errors import InputError
from wizard.facts.model import Facts, IommuDevice, PciFunction
from wizard.facts.snapshot import load
from wizard.facts.umockdev import from_umockdev, to_umockdev

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"

# As `umockdev-record /sys/bus/pci/devices/0000:00:02.0` of umockdev 0.17.16 wrote it, with attributes left out.
RECORDED = rb"""P: /devices/pci0000:00/0000:00:02.0
E: DRIVER=virtio-pci
E: ID_VENDOR_FROM_DATABASE=Red Hat, Inc.
E: PCI_CLASS=18000
E: PCI_SLOT_NAME=0000:00:02.0
E: SUBSYSTEM=pci
A: ari_enabled=0\n
A: class=0x018000\n
H: config=F41A42100604100001008001000000000400080040000000
A: device=0x1042\n
L: driver=../../../bus/pci/drivers/virtio-pci
A: driver_override=(null)\n
L: firmware_node=../../LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/device:02
A: msi_irqs/35=msix\n
A: numa_node=-1\n
A: resource=0x0000004000080000 0x00000040000fffff 0x0000000000140204\n0x0000000000000000 0x0000000000000000 0x0000000000000000\n
A: power/control=on\n
A: vendor=0x1af4\n

"""


def test_a_recording_becomes_functions() -> None:
    """What somebody recorded for another program shows its functions, with what it can't know named as absent."""
    facts = from_umockdev(RECORDED)
    (function,) = facts.functions
    assert (function.address, function.vendor, function.device, function.driver) == ("0000:00:02.0", "0x1af4", "0x1042", "virtio-pci")
    assert function.driver_override is None
    assert function.vendor_name == "Red Hat, Inc."
    assert function.config_length == 24
    assert function.resource == "0x0000004000080000 0x00000040000fffff 0x0000000000140204"
    assert facts.unread["/sys/kernel/iommu_groups"] == "absent"
    assert facts.memory_total is None


@pytest.mark.parametrize("name", ["arm64-virt", "vfio-arm64-virt-canwbs"])
def test_export_and_import_keep_every_function(name: str) -> None:
    """A host that goes out as a recording comes back with each attribute, link and byte."""
    facts = load(str(FIXTURES / f"{name}.json"))
    back = from_umockdev(to_umockdev(facts).encode())
    assert back.functions == facts.functions
    assert back.iommus == facts.iommus
    assert back.groups == ()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recorded arm64 host as umockdev reads it; skipped where umockdev is not installed."""
    if shutil.which("umockdev-run") is None:
        pytest.skip("umockdev-run is not installed")
    path = tmp_path / "host.umockdev"
    path.write_text(to_umockdev(load(str(FIXTURES / "arm64-virt.json"))))
    return path


LIVE = """
import msgspec, sys
from wizard.facts.live import read_live
facts = read_live()
sys.stdout.buffer.write(msgspec.json.encode((facts.functions, facts.iommus)))
"""


def test_the_live_source_enumerates_a_recorded_host(recording: Path) -> None:
    """Real udev enumeration over the recording, in umockdev's testbed: the live source finds what the recorder found."""
    done = subprocess.run(
        ["umockdev-run", "--device", recording, "--", sys.executable, "-c", LIVE], capture_output=True, check=True, cwd=ROOT, timeout=LIMIT
    )
    functions, iommus = msgspec.json.decode(done.stdout, type=tuple[tuple[PciFunction, ...], tuple[IommuDevice, ...]])
    recorded = load(str(FIXTURES / "arm64-virt.json"))
    assert functions == recorded.functions
    assert iommus == recorded.iommus


def test_umockdev_records_our_export_and_we_read_that(recording: Path) -> None:
    """umockdev-record's own words for the same host, order and all, are read back to the same functions."""
    if shutil.which("udevadm") is None:
        pytest.skip("umockdev-record needs udevadm")
    done = subprocess.run(["umockdev-run", "--device", recording, "--", "umockdev-record", "--all"], capture_output=True, check=True, timeout=LIMIT)
    recorded: Facts = load(str(FIXTURES / "arm64-virt.json"))
    assert from_umockdev(done.stdout).functions == recorded.functions


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no device"),
        (b"garbage\n", "line 1"),
        (b"A: vendor=0x1af4\\n\n", "no device"),
        (b"P: /devices/../../etc\n", "no path of a device"),
        (b"P: /devices/pci0000:00/x\nE: SUBSYSTEM=pci\nH: config=zz\n", "line 3"),
        (b"P: /devices/pci0000:00/x\nA: ../../x=1\n", "line 2"),
    ],
)
def test_a_broken_recording_is_named_by_its_line(text: bytes, said: str) -> None:
    """Status 3 with the line, never a traceback."""
    with pytest.raises(InputError, match=said):
        from_umockdev(text)
