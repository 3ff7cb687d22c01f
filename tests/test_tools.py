"""The real things that other tests ask are the ones that they take them for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tools.libvirt import native
from tests.tools.processes import LIMIT
from wizard.rehearsal.process import running
from wizard.rehearsal.report import Refused


@pytest.mark.qemu
async def test_qemu_has_the_devices_that_plans_and_rehearsals_use(qemu: Path, tmp_path: Path) -> None:
    words = ["-M", "virt,gic-version=3", "-nodefaults", "-display", "none", "-accel", "qtest"]
    async with running(str(qemu), words, str(tmp_path)) as client:
        reply = await client.execute("qom-list-types", {"implements": "device"})
    assert isinstance(reply, list)
    names = {entry["name"] for entry in reply}
    assert {"arm-smmuv3", "pxb-pcie", "pcie-root-port", "vfio-pci", "iommu-testdev", "igb", "nvme"} <= names


@pytest.mark.qemu
async def test_a_refused_command_line_is_told_in_qemus_words(qemu: Path, tmp_path: Path) -> None:
    words = ["-M", "virt", "-nodefaults", "-display", "none", "-accel", "qtest", "-device", "no-such-device"]
    with pytest.raises(Refused, match="no-such-device"):
        async with running(str(qemu), words, str(tmp_path)):
            pass


@pytest.mark.qemu
def test_iasl_reads_acpi_tables(iasl: Path) -> None:
    assert "ACPI" in subprocess.run([iasl, "-v"], capture_output=True, text=True, check=True, timeout=LIMIT).stdout


DOMAIN = """<domain type='qemu'>
  <name>guest</name><memory unit='GiB'>1</memory><vcpu>1</vcpu>
  <os firmware='efi'><type arch='aarch64' machine='virt'>hvm</type></os>
  <features><acpi/><gic version='3'/></features><cpu mode='maximum'/>
  <iommufd enabled='yes'/>
  <devices>
    <emulator>/usr/bin/qemu-system-aarch64</emulator>
    <controller type='usb' model='none'/>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' index='1' model='pcie-expander-bus'><model name='pxb-pcie'/><target busNr='8'/></controller>
    <controller type='pci' index='2' model='pcie-root-port'>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </controller>
    <hostdev mode='subsystem' type='pci' managed='no'>
      <source><address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </hostdev>
    <iommu model='smmuv3'><driver pciBus='1' accel='on'/></iommu>
  </devices>
</domain>"""


@pytest.mark.qemu
def test_libvirt_takes_accelerated_smmus_and_says_what_it_refuses() -> None:
    answers = native({"good": DOMAIN, "bad": DOMAIN.replace("accel='on'", "accel='auto'")}, ["0009:01:00.0"])
    good, bad = answers["good"], answers["bad"]
    assert (good.invalid, good.refused) == ("", "")
    assert good.argv[0] == "/usr/bin/qemu-system-aarch64"
    assert any('"driver":"arm-smmuv3"' in word and '"accel":true' in word for word in good.argv)
    assert any('"driver":"vfio-pci"' in word for word in good.argv)
    assert bad.invalid
    assert "accel" in bad.refused
