"""Who has a function's device files open, and which function shows the firmware's console."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools.hosts import NVME, changed, codes, facts, planned
from tests.tools.processes import ending
from wizard.facts.model import Facts, InUse
from wizard.facts.opened import device_files, of_displays, of_files
from wizard.facts.pseudonym import Secrets
from wizard.facts.redact import for_writing
from wizard.facts.snapshot import decode, encode
from wizard.facts.tree import DirectoryTree
from wizard.facts.vfio import holders
from wizard.host.doctor import diagnose

GPU = "0000:01:00.0"


class Sys:
    """A small /sys and /proc."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def write(self, path: str, text: str) -> None:
        (self.top / path).parent.mkdir(parents=True, exist_ok=True)
        (self.top / path).write_text(text)

    def link(self, path: str, to: str) -> None:
        (self.top / path).parent.mkdir(parents=True, exist_ok=True)
        (self.top / path).symlink_to(os.path.relpath(self.top / to, (self.top / path).parent))

    def char(self, number: str, path: str, name: str) -> None:
        """A character device below /sys/devices, as the kernel shows it."""
        self.write(f"sys/devices/{path}/uevent", f"MAJOR={number.partition(':')[0]}\nDEVNAME={name}\n")
        self.link(f"sys/dev/char/{number}", f"sys/devices/{path}")

    @property
    def tree(self) -> DirectoryTree:
        return DirectoryTree(str(self.top))


def test_device_files_by_what_the_kernel_lists(tmp_path: Path) -> None:
    made = Sys(tmp_path)
    made.char("226:0", f"pci0000:00/{GPU}/drm/card0", "dri/card0")
    made.char("231:192", "pci0000:00/0000:02:00.1/infiniband_verbs/uverbs0", "infiniband/uverbs0")
    made.char("243:0", "pci0000:00/0000:03:00.0/nvme/nvme0", "nvme0")
    made.char("510:0", "pci0000:00/0000:03:00.0/vfio-dev/vfio0", "vfio/devices/vfio0")
    made.char("13:64", "pci0000:00/0000:04:00.0/usb1/1-1/1-1:1.0/0003:046D:C31C.0001/input/input3/event3", "input/event3")
    made.char("4:64", "platform/serial8250/tty/ttyS0", "ttyS0")
    made.char("236:1", "virtual/net/macvtap0/tap12", "tap12")
    made.write("sys/devices/pci0000:00/0000:05:00.0/net/eth0/address", "")
    made.link("sys/class/net/eth0", "sys/devices/pci0000:00/0000:05:00.0/net/eth0")
    made.link("sys/class/net/macvtap0", "sys/devices/virtual/net/macvtap0")
    made.link("sys/devices/virtual/net/macvtap0/lower_eth0", "sys/devices/pci0000:00/0000:05:00.0/net/eth0")
    made.write("proc/driver/nvidia/gpus/0000:06:00.0/information", "Model: \t NVIDIA\nDevice Minor: \t 3\nGPU Excluded:\t No\n")
    assert device_files(made.tree) == {
        "/dev/dri/card0": GPU,
        "/dev/infiniband/uverbs0": "0000:02:00.1",
        "/dev/nvidia3": "0000:06:00.0",
        "/dev/nvme0": "0000:03:00.0",
        "/dev/tap12": "0000:05:00.0",
    }


@pytest.mark.parametrize(
    ("where", "boot_vga", "found"),
    [
        ("platform/simple-framebuffer.0", "1", [NVME]),
        ("platform/efi-framebuffer.0", "0", []),
        (f"pci0000:00/{NVME}/simple-framebuffer.0", None, [NVME]),  # below the function since Linux 6.12
        (f"pci0000:00/{GPU}/simple-framebuffer.0", None, [GPU]),
    ],
)
def test_the_boot_display(where: str, boot_vga: str | None, found: list[str], tmp_path: Path) -> None:
    made = Sys(tmp_path)
    made.write(f"sys/devices/{where}/uevent", "")
    made.write("sys/bus/platform/drivers/simple-framebuffer/bind", "")
    made.link(f"sys/bus/platform/devices/{where.rpartition('/')[2]}", f"sys/devices/{where}")
    functions = [replace(f, boot_vga=boot_vga) for f in facts("arm64-virt-canwbs").functions if f.address == NVME]
    assert of_displays(made.tree, functions) == []  # nobody drives it
    made.link(f"sys/devices/{where}/driver", "sys/bus/platform/drivers/simple-framebuffer")
    displays = of_displays(made.tree, functions)
    assert [use.address for use in displays] == found
    assert all("on driver simple-framebuffer" in use.detail for use in displays)


def test_a_process_of_this_machine_is_seen(tmp_path: Path) -> None:
    """/dev/zero in the place of a device of a function."""
    with open("/dev/zero", "rb") as file, ending(subprocess.Popen(["sleep", "600"], stdin=file, stdout=subprocess.DEVNULL)):
        opened = holders(DirectoryTree("/", live=True), files={"/dev/zero"})
    [use] = of_files({"/dev/zero": NVME, "/dev/other": GPU}, opened)
    assert (use.address, use.kind) == (NVME, "held")
    assert use.detail.startswith("processes ")  # this one and the other: with one of them ended the driver still waits
    assert f"{os.getpid()} (" in use.detail
    assert "(sleep" in use.detail
    assert use.detail.endswith("have /dev/zero open")


def held(**values: str) -> Facts:
    use = InUse(address=NVME, kind="held", detail="process 812 (nvidia-persiste, nvidia-persistenced.service) has /dev/nvidia0 open")
    return replace(facts("arm64-virt-canwbs"), in_use=(replace(use, **values),))


def test_it_moves_from_minute_to_minute_and_comes_through_a_snapshot() -> None:
    written, _ = for_writing(held(), Secrets(key=b"key"))
    read = decode(encode(written), "x")
    assert (read.in_use, read.moment.session) == (held().in_use, ())


def test_doctor_and_the_plan_say_it_until_it_is_on_vfio() -> None:
    on = changed(lambda _: held())
    assert "held-open" in {item.finding.code for area in diagnose(on).areas for item in area.findings}
    assert "held-open" in codes(planned(NVME, on=on))
    allowed = planned(NVME, on=on, allow_in_use=(NVME,))
    assert "in-use-allowed" in codes(allowed)
    assert allowed.ok
    bound = changed(lambda _: replace(held(), functions=tuple(replace(f, driver="vfio-pci", vfio_dev=("vfio0",)) for f in held().functions)))
    assert "held-open" not in codes(planned(NVME, on=bound))


def test_a_boot_display_is_an_error() -> None:
    assert "boot-display" in codes(planned(NVME, on=changed(lambda _: held(kind="display", detail="simple-framebuffer.0 of the firmware"))))
