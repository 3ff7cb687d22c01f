"""``list`` of a sos report of 1 GB with 8,192 functions, as directory, tar and tar.xz, against ``list`` of its snapshot and against bare unpacking.

    python -m benchmarks.sos [--functions 8192] [--size 1000] [--runs 3]

Goal: 5 s for a report that does not have to be unpacked first. What a packed one costs beside that is its unpacking, since a tar.xz has to be read
through: sos packs with one thread and ``preset=3``, as here. The text that fills the report is a log with numbers of its own on each line (it packs
to a tenth, as logs do).
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from benchmarks.big_host import build_tree
from benchmarks.list import compare, show
from wizard.facts.model import Facts, PciFunction
from wizard.facts.record import from_tree
from wizard.facts.snapshot import encode
from wizard.facts.source import open_tree

TOP = "sosreport-big-2026-11-30-abcdefg"


def _paragraph(function: PciFunction) -> str:
    ids, subsystem = (
        f"{a[2:].upper()}:{b[2:].upper()}" for a, b in ((function.vendor, function.device), (function.subsystem_vendor or "0x0000", "0x0001"))
    )
    lines = [
        f"P: /devices/{function.path}",
        f"M: {function.address}",
        "R: 0",
        "U: pci",
        "V: igb",
        f"E: DEVPATH=/devices/{function.path}",
        "E: SUBSYSTEM=pci",
    ]
    lines += [f"E: DRIVER={function.driver}"] if function.driver else []
    lines += [
        f"E: PCI_CLASS={int(function.class_, 16):X}",
        f"E: PCI_ID={ids}",
        f"E: PCI_SUBSYS_ID={subsystem}",
        f"E: PCI_SLOT_NAME={function.address}",
    ]
    lines += [f"E: MODALIAS=pci:v0000{ids.replace(':', 'd0000')}", "E: USEC_INITIALIZED=8215211", "E: ID_PCI_CLASS_FROM_DATABASE=Network controller"]
    lines += ["E: ID_PCI_SUBCLASS_FROM_DATABASE=Ethernet controller", "E: ID_VENDOR_FROM_DATABASE=Intel Corporation"]
    lines += ["E: ID_MODEL_FROM_DATABASE=Ethernet Controller X550", "E: ID_PATH=pci-" + function.address, "E: CURRENT_TAGS=:systemd:"]
    return "\n".join(lines) + "\n\n"


def build_report(tree: Path, facts: Facts, root: Path, size: int) -> None:
    """The host in ``tree`` as a report below ``root``, filled up to ``size`` MB."""
    smmus = [f"P: /devices/platform/{i.device}/iommu/{i.name}\nE: DEVPATH=/x\nE: SUBSYSTEM=iommu\n\n" for i in facts.iommus]
    listed = subprocess.run(["lspci", "-A", "linux-sysfs", "-O", f"sysfs.path={tree}/sys/bus/pci", "-nnvv"], capture_output=True, check=True).stdout
    files: dict[str, bytes] = {
        "sos_commands/devices/udevadm_info_--export-db": ("".join([*map(_paragraph, facts.functions), *smmus])).encode(),
        "sos_commands/pci/lspci_-nnvv": listed,
        "sos_commands/kernel/dmesg": ("[    0.000000] Linux version 6.17.0\n" + "\n".join(facts.log)).encode(),
        "sos_commands/kernel/uname_-a": b"Linux big 6.17.0 #1 SMP aarch64 GNU/Linux\n",
        **{f"sys/firmware/acpi/tables/{name}": bytes.fromhex(table) for name, table in facts.acpi.items()},
        "sys/firmware/acpi/tables/FACP": b"FACP",
    }
    for function in facts.functions:
        segment, bus, leaf = function.address.split(":")
        files[f"proc/bus/pci/{segment}:{bus}/{leaf}"] = bytes.fromhex(function.config).ljust(function.config_length, b"\0")
    for number in range(15000):  # of each process and each CPU something
        files[f"proc/{number}/status" if number % 2 else f"sys/devices/system/cpu/cpu{number}/online"] = b"1\n" * 40
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    rest = (size << 20) - sum(map(len, files.values()))
    for number in range(max(0, rest) // (20 << 20)):
        place = root / ("var/log" if number % 2 else "sos_commands/logs") / f"messages-{number}"
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("w") as log:
            for line in range((20 << 20) // 100):
                event = f"event {hash((number, line)) & 0xFFFFFFFF:08x} of pod {line * 31 % 9973} is done"
                print(f"Nov 30 04:{line % 60:02}:01 big kubelet[{line % 4096}]: {event}", file=log)


def main() -> None:
    """Build the report in its forms, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--functions", type=int, default=8192)
    parser.add_argument("--size", type=int, default=1000, help="MB, unpacked")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    wizard = [sys.executable, "-m", "wizard"]
    directory = Path(tempfile.mkdtemp(dir="/dev/shm" if shutil.disk_usage("/dev/shm").free > 4 << 30 else None))
    try:
        build_tree(directory / "tree", arguments.functions)
        facts = from_tree(open_tree(str(directory / "tree")))
        (directory / "host.json").write_bytes(encode(facts))
        root = directory / "unpacked" / TOP
        build_report(directory / "tree", facts, root, arguments.size)
        shutil.rmtree(directory / "tree")
        with tarfile.open(directory / "report.tar", "w") as archive:
            archive.add(root, TOP)
        with open(directory / "report.tar", "rb") as plain, lzma.open(directory / "report.tar.xz", "wb", preset=3) as packed:
            shutil.copyfileobj(plain, packed, 1 << 20)
        plain_size, packed_size = ((directory / name).stat().st_size >> 20 for name in ("report.tar", "report.tar.xz"))
        print(f"{len(facts.functions)} functions, {plain_size} MB, {packed_size} MB packed")
        best = compare(
            {
                "list, of the snapshot": [*wizard, "--replay", str(directory / "host.json"), "list"],
                "list, of the directory": [*wizard, "--root", str(root), "list"],
                "list, of the tar": [*wizard, "--root", str(directory / "report.tar"), "list"],
                "list, of the tar.xz": [*wizard, "--root", str(directory / "report.tar.xz"), "list"],
                "xz -dc, of the tar.xz": ["xz", "-dc", str(directory / "report.tar.xz")],
            },
            arguments.runs,
        )
        show("A sos report", best)
        snapshot, tar, xz, bare = (
            best[name][0] for name in ("list, of the snapshot", "list, of the tar", "list, of the tar.xz", "xz -dc, of the tar.xz")
        )
        print(
            f"  tar / snapshot {tar / snapshot:.1f}; tar.xz / (tar + xz -dc) {xz / (tar + bare):.2f}; tar within 5 s: {'yes' if tar <= 5 else 'no'}"
        )
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
