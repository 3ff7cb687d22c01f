"""Whose vectors an ITS has: /proc/interrupts of the recorded host, and lines of older kernels as people posted them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.hosts import E1000E, NVME, PF, changed
from wizard.facts.interrupts import behind_its
from wizard.facts.model import Moment
from wizard.facts.record import from_tree
from wizard.facts.source import open_tree
from wizard.facts.tree import DirectoryTree
from wizard.host.model import Host

RECORDED = Path(__file__).parent / "data/interrupts/arm64-virt-7.2.txt"  # the host of fixtures/arm64-virt*.json, Linux 7.2.13
PORTS = ("0000:10:00.0", "0000:10:01.0", "0000:40:00.0", "0000:40:01.0", "0000:40:02.0", "0000:80:00.0", "0000:80:01.0")
# Posted of a Qualcomm SM8550 and of a Rock 5 ITX, whose interface enP4p65s0 is 0004:41:00.0; platform devices and lines of a GIC name no function.
OLD = """           CPU0       CPU1
 31:          5          0     GICv3  23 Level     arm-pmu
167:          0          4   ITS-MSI 524288 Edge      bhi
224:          0        597   ITS-MSI 570949632 Edge      enP4p65s0-0
225:          0          0   ITS-pMSI   0 Edge      smmu-evtq
 60:          1          0       MSI 131072 Edge      xhci
"""


def tree_with(text: str, top: Path) -> DirectoryTree:
    (top / "proc").mkdir()
    (top / "proc/interrupts").write_text(text)
    return DirectoryTree(str(top))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (RECORDED.read_text(), tuple(sorted(("0000:00:01.0", *PORTS, NVME, "0000:42:00.0", "0000:83:02.0")))),
        (OLD, ("0000:01:00.0", "0004:41:00.0")),
        ("", ()),
        (f" 9: 1 ITS-MSI {1 << 62} Edge x\n 8: 1 ITS-PCI-MSIX-0000:01:40.0 0 Edge x\n", ()),
    ],
)
def test_whose_vectors_an_its_has(text: str, found: tuple[str, ...], tmp_path: Path) -> None:
    assert behind_its(tree_with(text, tmp_path)) == found


def test_it_is_read_where_the_firmwares_table_is_not(tmp_path: Path) -> None:
    tree_with(RECORDED.read_text(), tmp_path)
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    assert NVME in from_tree(open_tree(str(tmp_path))).moment.its


def as_user(*its: str) -> Host:
    """The recorded host as an ordinary user sees it: no IORT, no log."""
    return changed(acpi={}, log=(), log_complete=False, hw_info=(), moment=Moment(its=its))


@pytest.mark.parametrize(
    ("its", "address", "unknown"),
    [
        ((), NVME, True),
        ((NVME,), NVME, False),
        (("0000:10:00.0",), NVME, False),  # a root port of the same host bridge, which every driver of ports gives a vector
        (("0000:10:00.0",), PF, False),
        (("0000:10:00.0",), E1000E, True),  # of another host bridge: firmware may send it elsewhere
        (("0000:ff:00.0",), NVME, True),  # not of this host
    ],
)
def test_it_answers_for_a_host_bridge(its: tuple[str, ...], address: str, unknown: bool) -> None:
    codes = {reason.code for reason in as_user(*its).verdict(address).found}
    assert ("msi-isolation-unknown" in codes) is unknown
