"""The functions of recorded facts as a tree that the real lspci reads (``lspci -A linux-sysfs -O sysfs.path=…``)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools.processes import LIMIT
from wizard.facts.model import Facts

_EMPTY = "0x0000000000000000 0x0000000000000000 0x0000000000000000"


def build(facts: Facts, root: Path) -> Path:
    """Write the tree; gives the path for ``sysfs.path``."""
    bus = root / "sys/bus/pci"
    (bus / "devices").mkdir(parents=True)
    (bus / "slots").mkdir()
    for function in facts.functions:
        directory = root / "sys/devices" / function.path
        directory.mkdir(parents=True, exist_ok=True)
        texts = {name: getattr(function, name) for name in ("vendor", "device", "revision", "subsystem_vendor", "subsystem_device")}
        lines = function.resource.split("\n") if function.resource else []
        texts |= {"class": function.class_, "irq": "0", "numa_node": str(function.numa_node)}
        texts["resource"] = "\n".join([*lines, *[_EMPTY] * (13 - len(lines))])
        for name, text in texts.items():
            if text is not None:
                (directory / name).write_text(text + "\n")
        if function.config_length:
            (directory / "config").write_bytes(bytes.fromhex(function.config).ljust(function.config_length, b"\0"))
        for name, leads in (("driver", function.driver), ("iommu_group", function.iommu_group)):
            if leads is not None:
                (directory / name).symlink_to(f"/nowhere/{name}s/{leads}")
        (bus / "devices" / function.address).symlink_to(os.path.relpath(directory, bus / "devices"))
    return bus


def lspci(bus: Path, *options: str) -> bytes:
    """What lspci prints of such a tree; skipped where pciutils is not installed."""
    if shutil.which("lspci") is None:
        pytest.skip("lspci is not installed (Debian: pciutils): its forms can't be asked for")
    words = ["lspci", *options, "-A", "linux-sysfs", "-O", f"sysfs.path={bus}"]
    return subprocess.run(words, capture_output=True, check=True, timeout=LIMIT, stdin=subprocess.DEVNULL).stdout
