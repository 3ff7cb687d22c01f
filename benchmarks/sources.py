"""One host, told in other ways: a sos report, a paste of lspci, VMs that exist, each against the same command with the snapshot; and how each grows.

    python -m benchmarks.sources [--functions 8192] [--runs 3]
    python -m benchmarks.sources --growth 1000,8192,65536

Goals: ``list`` and ``list --json`` of a sos report (a directory) and of what ``lspci -xxxx`` prints within 1.5 times the same command with
``--replay`` of the host's snapshot; ``check`` of libvirt domains and of QEMU command lines within 1.5 times ``check`` of the profiles of the
same VMs, all of them on that snapshot. With ``--growth``: the exponents between the sizes, none above 1.1; the host is the sos report there,
since the snapshot of 65,536 functions is longer than what is read, and the time of a host of 16 functions is taken off each, since loading a
program grows with nothing. Processor time (user and system, with children) of whole processes, all of them in turn, the best of the runs.

The report and the paste are written from what the tree of ``big_host`` is made of, without the tree: 65,536 functions are two million files
there. The words of lspci are lspci's own (``-F``), with the lines of NUMA node and IOMMU group, which a dump does not hold.
"""

from __future__ import annotations

import argparse
import math
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.big_host import facts_of, iort, layout, log
from benchmarks.list import ROOT
from wizard.facts.snapshot import encode

WIZARD = [sys.executable, "-m", "wizard"]
NAMES = {"0x060400": ("PCI bridge", "Ampere Computing, LLC"), "0x020000": ("Ethernet controller", "Intel Corporation")}
_LEAST = 16  # functions
VMS, EACH = 64, 12  # one VM for so many functions of the host, so many functions in each


def seconds(words: list[str]) -> float:
    """Processor time of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile() as out:
        done = subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, check=False)
    if done.returncode > 1:
        raise SystemExit(f"{' '.join(words)[:200]} ended with status {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fastest(commands: Mapping[str, list[str]], runs: int) -> dict[str, float]:
    """The best time of each, all of them in turn."""
    best = dict.fromkeys(commands, math.inf)
    for _ in range(runs):
        for name, words in commands.items():
            best[name] = min(best[name], seconds(words))
    return best


def write_dump(path: Path, count: int, size: int) -> None:
    """What ``lspci -D -xxx`` (256) or ``-xxxx`` (4096) prints."""
    with path.open("w", encoding="ascii") as out:
        for _, address, _, config, class_ in layout(count):
            kind, maker = NAMES[class_]
            rows = "\n".join(f"{at:02x}: {config[at : at + 16].hex(' ')}" for at in range(0, size, 16))
            out.write(f"{address} {kind}: {maker} Device\n{rows}\n\n")


def _words(dump: Path) -> Iterator[str]:
    listed = subprocess.run(["lspci", "-D", "-F", str(dump), "-nnvv"], capture_output=True, check=True).stdout.decode(errors="replace")
    for group, paragraph in enumerate(listed.rstrip("\n").split("\n\n")):
        head, _, rest = paragraph.partition("\n")
        before, status, behind = rest.partition("\tStatus: ")
        line, _, more = behind.partition("\n")
        known = f"\tNUMA node: {int(head[:4], 16) % 2}\n\tIOMMU group: {group}"
        yield f"{head}\n{before}{status}{line}\n{known}\n{more}\n\tKernel driver in use: vfio-pci\n\n"


def write_report(root: Path, count: int, dump: Path) -> None:
    """A sos report of the host: udev's database, lspci's words, configuration space, IORT, the log."""
    database: list[str] = []
    segments: dict[int, None] = {}
    for number, (segment, address, parent, config, class_) in enumerate(layout(count)):
        segments.setdefault(segment)
        path = f"/devices/pci{segment:04x}:00/" + (f"{parent}/{address}" if parent else address)
        ids = f"{config[1]:02X}{config[0]:02X}:{config[3]:02X}{config[2]:02X}" if config[:2] != b"\xff\xff" else "8086:1565"
        driver = "vfio-pci" if parent else "pcieport"
        properties = {
            "DEVPATH": path, "SUBSYSTEM": "pci", "DRIVER": driver, "PCI_CLASS": f"{int(class_, 16):X}", "PCI_ID": ids, "PCI_SUBSYS_ID": "8086:0001",
            "PCI_SLOT_NAME": address, "MODALIAS": f"pci:v0000{ids.replace(':', 'd0000')}", "USEC_INITIALIZED": str(8215211 + number),
            "ID_PCI_CLASS_FROM_DATABASE": "Network controller", "ID_VENDOR_FROM_DATABASE": NAMES[class_][1], "ID_MODEL_FROM_DATABASE": "Device",
            "ID_PATH": f"pci-{address}", "CURRENT_TAGS": ":systemd:",
        }  # fmt: skip
        lines = [f"P: {path}", f"M: {address}", "R: 0", "U: pci", f"V: {driver}", *(f"E: {key}={value}" for key, value in properties.items()), ""]
        database.append("\n".join(lines))
        bus = root / f"proc/bus/pci/{address.rpartition(':')[0]}"
        bus.mkdir(parents=True, exist_ok=True)
        (bus / address.rpartition(":")[2]).write_bytes(config)
    for segment in segments:
        device = f"/devices/platform/arm-smmu-v3.{segment}.auto/iommu/smmu3.0x{0x10000000 + 0x20000 * segment:016x}"
        database.append(f"P: {device}\nE: DEVPATH={device}\nE: SUBSYSTEM=iommu\n")
    files: dict[str, bytes] = {
        "sos_commands/devices/udevadm_info_--export-db": "\n".join(database).encode(),
        "sos_commands/pci/lspci_-nnvv": "".join(_words(dump)).encode(),
        "sos_commands/kernel/dmesg": "\n".join(log(list(segments))).encode(),
        "sos_commands/kernel/uname_-a": b"Linux big 7.2.0 #1 SMP aarch64 GNU/Linux\n",
        "sys/firmware/acpi/tables/IORT": iort(list(segments)),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def functions_to_give(count: int) -> list[list[str]]:
    """For each VM the VFs that it has."""
    virtual = [address for _, address, parent, _, _ in layout(count) if parent and not address.endswith(".0")]
    return [virtual[at : at + EACH] for at in range(0, max(1, count // VMS) * EACH, EACH)]


def write_vms(folder: Path, host: list[str], count: int) -> dict[str, list[str]]:
    """The same VMs as profiles, libvirt domains and QEMU command lines: kind -> files."""
    vms = [word for number, functions in enumerate(functions_to_give(count)) for word in ("--vm", f"vm{number}={','.join(functions)}")]
    subprocess.run(
        [*WIZARD, *host, "plan", "--assume-accel", "--mode", "accel", *vms, "-o", str(folder), "--force"], cwd=ROOT, check=True, capture_output=True
    )
    profiles = sorted(folder.glob("*.toml"))
    found = {"profiles": [str(path) for path in profiles], "libvirt domains": [], "QEMU command lines": []}
    from wizard.export.libvirt import libvirt_xml
    from wizard.export.qemu import qemu_script
    from wizard.facts.source import Source, SourceKind
    from wizard.host.opening import open_host
    from wizard.plan.planner import make_plan
    from wizard.plan.request import Request
    from wizard.profile import read_profile

    source = Source(SourceKind.REPLAY if host[0] == "--replay" else SourceKind.ROOT, host[1])
    plan = make_plan(open_host(source, None), Request(vms=tuple(read_profile(path)[0] for path in profiles)))
    for vm in plan.vms:
        for kind, suffix, text in (("libvirt domains", "xml", libvirt_xml(vm)), ("QEMU command lines", "sh", qemu_script(vm))):
            path = folder / f"{vm.name}.{suffix}"
            path.write_text(text)
            found[kind].append(str(path))
    return found


def write_messages(path: Path, count: int) -> None:
    """A message of QEMU's for each function."""
    with path.open("w") as out:
        for number, (_, address, _, _, _) in enumerate(layout(count)):
            out.write(f"qemu-system-aarch64: vfio {address}: [iommufd={number}] error attach {address} (26) to id={number}: Invalid argument\n")


def ratios(folder: Path, count: int, runs: int) -> None:
    """Each source against the snapshot."""
    facts = facts_of(folder / "tree", count)
    (folder / "host.json").write_bytes(encode(facts))
    shutil.rmtree(folder / "tree")
    snapshot = ["--replay", str(folder / "host.json")]
    sources = {"snapshot": snapshot, **_others(folder, count)}
    print(f"{count} functions, processor time (goal: within 1.5 times the first of each)")
    for command in (["list"], ["list", "--json"]):
        _show(" ".join(command), fastest({name: [*WIZARD, *words, *command] for name, words in sources.items()}, runs))
    (folder / "vms").mkdir()
    vms = write_vms(folder / "vms", snapshot, count)
    best = fastest({name: [*WIZARD, *snapshot, "check", "--assume-accel", "-q", *files] for name, files in vms.items()}, runs)
    _show(f"check, {len(vms['profiles'])} VMs", best)


def _others(folder: Path, count: int) -> dict[str, list[str]]:
    for size, form in ((256, "-xxx"), (4096, "-xxxx")):
        if form == "-xxx" or count <= 16384:  # a text of 256 MiB is read
            write_dump(folder / f"dump{form}", count, size)
    write_report(folder / "sosreport-big", count, folder / "dump-xxx")
    pastes = {f"lspci {form}": ["--replay", str(folder / f"dump{form}")] for form in ("-xxx", "-xxxx") if (folder / f"dump{form}").exists()}
    return {"sos report": ["--root", str(folder / "sosreport-big")], **pastes}


def _show(title: str, best: Mapping[str, float]) -> None:
    first = next(iter(best.values()))
    for name, taken in best.items():
        print(f"  {title:16} {name:20} {taken:7.3f} s   {taken / first:5.2f}")


def growth(folder: Path, counts: list[int], runs: int) -> None:
    """How each grows from one size to the next."""
    taken: dict[str, list[float]] = {}
    for count in (_LEAST, *counts):
        place = folder / str(count)
        (place / "vms").mkdir(parents=True)
        others = _others(place, count)
        host = others["sos report"]
        write_messages(place / "messages", count)
        vms = write_vms(place / "vms", host, count)
        commands = {f"list, {name}": [*WIZARD, *words, "list"] for name, words in others.items() if name != "lspci -xxxx"}
        commands["explain, a message for each function"] = [*WIZARD, "explain", "--json", str(place / "messages")]
        commands["explain, held against the host"] = [*WIZARD, *host, "explain", "--json", str(place / "messages")]
        commands |= {f"check, {name}": [*WIZARD, *host, "check", "--assume-accel", "-q", *files] for name, files in vms.items()}
        commands["import, libvirt domains"] = [*WIZARD, "import", *vms["libvirt domains"], "-o", str(place / "imported"), "--force"]
        for name, best in fastest(commands, runs).items():
            taken.setdefault(name, []).append(best)
        shutil.rmtree(place)
    sizes = " to ".join(map(str, counts))
    print(f"{sizes} functions, one VM of {EACH} for each {VMS} of them: processor seconds, and the exponents (goal: 1.1 at most)")
    for name, (least, *each) in taken.items():
        grown = [max(one - least, 0.001) for one in each]
        steps = [math.log(b / a) / math.log(n / m) for a, b, m, n in zip(grown, grown[1:], counts, counts[1:], strict=False)]
        print(f"  {name:40} {' '.join(f'{one:8.2f}' for one in each)}   {' '.join(f'{step:5.2f}' for step in steps)}")


def main() -> None:
    """Write the host in each form, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--functions", type=int, default=8192)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--growth", metavar="N,N…", type=lambda text: [int(word) for word in re.split(",", text)], help="sizes, in place of the ratios"
    )
    arguments = parser.parse_args()
    if shutil.which("lspci") is None:
        raise SystemExit("lspci is not installed (Debian: pciutils): a sos report holds its words.")
    memory = "/dev/shm" if shutil.disk_usage("/dev/shm").free > 4 << 30 else None
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-", dir=memory) as name:
        if arguments.growth:
            growth(Path(name), arguments.growth, arguments.runs)
        else:
            ratios(Path(name), arguments.functions, arguments.runs)


if __name__ == "__main__":
    main()
