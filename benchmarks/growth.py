"""How the processor time of every command grows with the functions of a host, and with the VMs on it.

    python -m benchmarks.growth [--functions 1000,8192,65536] [--vms 1,8,64] [--only WORD] [--runs N] [--place DIR] [--cold]

Each command that the parser has is run as a whole process on hosts of these sizes, and on one of 18 functions, whose time is the start's. Between
the two largest sizes stands the exponent: the time beyond the start's grows with the functions to this power. Above 1.1 a row is marked ``!``.
A command or a format without a row is named, as is one that fails; either ends the benchmark with status 1. Screens are in ``tui``.

The hosts are ``big_host``'s as snapshots, since what reading a tree costs would hide what grows beside it (``--root`` has rows of its own), and
the same, up to 8,192, with all functions in one IOMMU group and no reset but the bus's (``crowd``). A VM has two functions; with 1, 8 and 64 of
them on the smallest of the hosts the time beyond that of one VM is taken. Wall clock and peak memory are those of the largest size: 10 s and
1.5 GiB are the goals at 65,536.

A tree of 65,536 functions has 2.5 million files and takes 9 GiB of memory as a tmpfs: ``--place`` names another directory. ``--cold`` empties
the kernel's caches before each run, as root; on a tmpfs there is nothing to empty.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msgspec import json
from msgspec.structs import replace

from benchmarks.big_host import build_tree
from wizard.cli import consumers
from wizard.cli.parser import build
from wizard.facts.model import Facts, Group
from wizard.facts.snapshot import encode
from wizard.fleet import engines

ROOT = Path(__file__).resolve().parent.parent
START = 18  # functions: two cards with the ports above them
ALLOWED = 1.1
CROWD = 8192  # functions of the largest host that has them all in one group
NO_ROW = {
    "translate": "takes no host: benchmarks.translate",
    "hitless": "takes no host",
    "tables": "takes no host",
    "smmu-server": "takes no host, and runs until it is ended",
    "schema": "takes no host",
    "watch": "runs until it is ended: benchmarks.watch",
    "verify": "asks the VMs that run on this machine",
    "rehearse": "its time is QEMU's",
}
"""Commands that need none, and why."""
MESSAGE = "IOMMU_VIOMMU_ALLOC failed: Operation not supported"


@dataclass(frozen=True)
class Place:
    """A host of one size, in files of one folder."""

    folder: Path
    vfs: tuple[str, ...]
    smmu: str

    def file(self, name: str) -> str:
        """The path of a file there."""
        return str(self.folder / name)

    @property
    def host(self) -> list[str]:
        """The words that name the host."""
        return ["--replay", self.file("host.json")]

    @property
    def tree(self) -> list[str]:
        """The same for its tree."""
        return ["--root", self.file("tree")]

    def out(self, name: str) -> list[str]:
        """``-o`` for what nobody looks at."""
        return ["--force", "-o", self.file(name)]

    def vms(self, count: int) -> list[str]:
        """The words that plan so many VMs, and write their profiles."""
        each = (f"--vm=vm{vm}={','.join(self.vfs[2 * vm : 2 * vm + 2])}" for vm in range(count))
        return ["plan", "--assume-accel", *each, *self.host, *self.out(f"vms-{count}")]

    def profiles(self, count: int) -> list[str]:
        """Those profiles."""
        return [self.file(f"vms-{count}/vm{vm}.toml") for vm in range(count)]


Words = Callable[[Place], list[str]]


def rows() -> dict[str, Words]:
    """The commands whose time grows with the functions of the host: what is shown of each, and its words."""
    found: dict[str, Words] = {
        "plan": lambda at: at.vms(1),  # first: others take its profile
        "plan --mode none": lambda at: ["plan", "--mode", "none", f"--vm=vm0={at.vfs[0]}", *at.host, *at.out("plain")],
        "list": lambda at: ["list", *at.host],
        "list --json": lambda at: ["list", "--json", *at.host],
        "list --csv": lambda at: ["list", "--csv", *at.host],
        "list --ndjson": lambda at: ["list", "--ndjson", at.file("host.json")],
        "list FILTER": lambda at: ["list", "-q", "accel:yes", *at.host],
        "list --root": lambda at: ["list", *at.tree],
        "show": lambda at: ["show", at.vfs[-1], *at.host],
        "show --json": lambda at: ["show", "--json", at.vfs[-1], *at.host],
        "show SMMU": lambda at: ["show", at.smmu, *at.host],
        "doctor": lambda at: ["doctor", *at.host],
        "doctor --json": lambda at: ["doctor", "--json", *at.host],
        "explain": lambda at: ["explain", MESSAGE, *at.host],
        "explain --json, of a function": lambda at: ["explain", "--json", f"vfio {at.vfs[0]}: group 3 is not viable", *at.host],
        "record --root": lambda at: ["record", *at.tree, *at.out("again.json")],
        "record": lambda at: ["record", *at.host, *at.out("again.json")],
        "record --no-redact": lambda at: ["record", "--no-redact", *at.tree, *at.out("plain.json")],
        "record, of what is not redacted": lambda at: ["record", "--replay", at.file("plain.json"), *at.out("again.json")],
        "record --summary": lambda at: ["record", "--summary", *at.host, *at.out("summary.json")],
        "record FILE.umockdev": lambda at: ["record", *at.host, *at.out("again.umockdev")],
        "prepare": lambda at: ["prepare", *at.vfs[:2], *at.host],
        "import --fix": lambda at: ["import", "--fix", at.file("domain.xml"), *at.host, *at.out("imported")],
        "check": lambda at: ["check", *at.profiles(1), *at.host],
        "check --fix": lambda at: ["check", "--fix", at.file("domain.xml"), *at.host],
        "report": lambda at: ["report", *at.host, *at.out("report.html")],
        "dry-run": lambda at: ["dry-run", *at.profiles(1), *at.host],
        "diff": lambda at: ["diff", at.file("host.json"), at.file("changed.json")],
        "diff --json": lambda at: ["diff", "--json", at.file("host.json"), at.file("changed.json")],
        "baseline": lambda at: ["baseline", "--no-index", at.file("host.json")],
        "match": lambda at: ["match", "--no-index", at.file("request.toml"), at.file("host.json"), *at.out("matched")],
        "index": lambda at: ["index", "--no-index", "rows", at.file("host.json")],
    }
    found |= {f"export {form}": _with("export", "--format", form, profile="vms-1") for form in choices("export", "format")}
    found |= {f"topology {form}": _with("topology", "--format", form) for form in choices("topology", "format")}
    of_vm = {*engines.OF_VM, *consumers.OF_VM}
    for form in choices("engine", "format"):
        options = ["--node=node1"] if form in ("dra-slices", "nfd-nodefeature", "proxmox", "slurm") else []
        found[f"engine {form}"] = _with("engine", form, *options, profile="plain" if form in of_vm else None)
    found["engine cdi"] = lambda at: ["engine", "cdi", "--replay", at.file("changed.json")]  # it takes what is on vfio-pci alone
    return found


def _with(*words: str, profile: str | None = None) -> Words:
    return lambda at: [*words, *([at.file(f"{profile}/vm0.toml")] if profile else ()), *at.host]


def of_vms(count: int) -> dict[str, Words]:
    """The commands whose time grows with the VMs."""
    return {
        "plan": lambda at: at.vms(count),
        "check": lambda at: ["check", *at.profiles(count), *at.host],
        "dry-run": lambda at: ["dry-run", *at.profiles(count), *at.host],
        "topology": lambda at: ["topology", *at.profiles(count), *at.host],
        "report": lambda at: ["report", *at.profiles(count), *at.host, *at.out("report.html")],
        "explain": lambda at: ["explain", MESSAGE, *(f"--profile={one}" for one in at.profiles(count)), *at.host],
        "diff": lambda at: ["diff", at.file("host.json"), at.file("changed.json"), *(f"--profile={one}" for one in at.profiles(count))],
    }


def commands() -> Mapping[str, argparse.ArgumentParser]:
    """The parser's commands by name."""
    return next(action.choices for action in build()._actions if isinstance(action, argparse._SubParsersAction))


def choices(command: str, name: str) -> tuple[str, ...]:
    """What the parser lets one choose from."""
    return tuple(next(action.choices for action in commands()[command]._actions if action.dest == name and action.choices))


def without_row() -> list[str]:
    """Commands that nobody has written a row for."""
    return [name for name in commands() if name not in NO_ROW and not any(row.split(",")[0].split()[0] == name for row in rows())]


def made(folder: Path, count: int, *, crowd: bool = False) -> Place:
    """The files of a host: its tree, its snapshot, another with a changed group and driver for each, a request and a domain."""
    build_tree(folder / "tree", count)
    words = ["record", "--root", str(folder / "tree"), "-o", str(folder / "recorded.json")]
    subprocess.run([sys.executable, "-m", "wizard", *words], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    facts = json.decode((folder / "recorded.json").read_bytes(), type=Facts)
    if crowd:
        everybody = tuple(one.address for one in facts.functions)
        functions = tuple(replace(one, iommu_group=0, reset_method="bus") for one in facts.functions)
        facts = replace(facts, functions=functions, groups=(replace(facts.groups[0], id=0, devices=everybody),))
    (folder / "host.json").write_bytes(encode(facts))
    changed = tuple(replace(one, driver="vfio-pci", vfio_dev=(f"vfio{place}",)) for place, one in enumerate(facts.functions))
    (folder / "changed.json").write_bytes(encode(replace(facts, functions=changed, groups=tuple(map(_renumbered, facts.groups)))))
    vfs = tuple(one.address for one in facts.functions if one.physfn)
    place = Place(folder, vfs, facts.iommus[0].name)
    (folder / "request.toml").write_text('name = "net"\ncount = 2\n[[device]]\nclass = "02"\n', encoding="utf-8")
    hostdev = "<hostdev mode='subsystem' type='pci' managed='yes'><source><address {}/></source></hostdev>"
    segment, bus, rest = vfs[0].split(":")
    slot, _, function = rest.partition(".")
    at = hostdev.format(f"domain='0x{segment}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'")
    head = "<domain type='kvm'><name>one</name><memory unit='GiB'>1</memory><vcpu>1</vcpu><os><type arch='aarch64' machine='virt'>hvm</type></os>"
    (folder / "domain.xml").write_text(f"{head}<iommu model='smmuv3'/><devices>{at}</devices></domain>", encoding="utf-8")
    return place


def _renumbered(group: Group) -> Group:
    return replace(group, type="identity")


class Taken(NamedTuple):
    """One run: seconds and MiB."""

    cpu: float
    wall: float
    memory: float


def run(words: Sequence[str]) -> Taken | str:
    """One command; what it takes is its own and that of the processes that it waited for, its memory that of the largest of them. Or what it said."""
    start = time.perf_counter()
    with open(os.devnull, "wb") as nowhere, tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-m", "wizard", *words], stdout=nowhere, stderr=said, stdin=subprocess.DEVNULL, cwd=ROOT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            said.seek(0)
            return f"status {process.returncode}: {said.read().decode(errors='replace').strip()[-200:]}"
    return Taken(used.ru_utime + used.ru_stime, time.perf_counter() - start, used.ru_maxrss / 1024)


def best(words: Sequence[str], runs: int, *, cold: bool) -> Taken | str:
    """The least processor time of some runs; what it said, where it failed."""
    taken: list[Taken] = []
    for _ in range(runs):
        if cold:  # so that files and directories are read from their disk again
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
        one = run(words)
        if isinstance(one, str):
            return one
        taken.append(one)
    return min(taken)


def exponent(sizes: Sequence[int], taken: Sequence[float], start: float) -> float | None:
    """Of the growth between the last two; None where it is lost in the start's own spread, a tenth of a second."""
    before, after = (max(one - start, 0.0) for one in taken[-2:])
    return math.log(after / max(before, 0.001)) / math.log(sizes[-1] / sizes[-2]) if after > 0.1 else None


def show(what: str, sizes: Sequence[int], taken: Sequence[Taken | str], start: Taken | str) -> bool:
    """One line of the table; whether it is as it should be."""
    told = [one for one in (start, *taken) if isinstance(one, str)]
    figures = [one for one in taken if not isinstance(one, str)]
    if told or isinstance(start, str):
        print(f"! {what:<34} {told[0]}", flush=True)
        return False
    found = exponent(sizes, [one.cpu for one in figures], start.cpu)
    mark = "!" if found is not None and found > ALLOWED else " "
    each = "".join(f"{one.cpu:10.2f}" for one in figures)
    last = figures[-1]
    print(f"{mark} {what:<34} {each}  {'-' if found is None else f'{found:.2f}':>8}{last.wall:10.2f}{last.memory:8.0f}", flush=True)
    return True


def head(what: str, sizes: Iterable[int]) -> None:
    """The head of a table."""
    print(f"\n  {what:<34} {''.join(f'{size:>10}' for size in sizes)}  exponent    wall s     MiB")


def _numbers(text: str) -> list[int]:
    return sorted(map(int, text.split(",")))


def main() -> int:
    """Build the hosts, run every command, say how it grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--functions", type=_numbers, default=[1000, 8192, 65536], help="sizes of the host (1000,8192,65536)")
    parser.add_argument("--vms", type=_numbers, default=[1, 8, 64], help="VMs on the smallest of them (1,8,64)")
    parser.add_argument("--only", default="", help="rows with this text in their names (and `plan`, whose profiles others take)")
    parser.add_argument("--runs", type=int, default=1, help="of which the best counts (1)")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    parser.add_argument("--place", default=memory, metavar="DIR", help=f"where the hosts go ({memory or tempfile.gettempdir()})")
    parser.add_argument("--cold", action="store_true", help="empty the kernel's caches before each run, as root")
    arguments = parser.parse_args()

    def taken_by(words: Sequence[str]) -> Taken | str:
        return best(words, arguments.runs, cold=arguments.cold)

    fine = not (forgotten := without_row())
    print(f"no row, and nobody said why: {', '.join(forgotten)}" if forgotten else "every command has a row, or a reason for having none:")
    print("\n".join(f"  {name}: {why}" for name, why in NO_ROW.items()))
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-", dir=arguments.place) as scratch:
        for crowd in (False, True):
            sizes = [START, *(size for size in arguments.functions if not crowd or size <= CROWD)]
            places = [made(Path(scratch) / f"{'crowd' if crowd else 'host'}-{size}", size, crowd=crowd) for size in sizes]
            for place in places if crowd else ():
                for name in ("vms-1", "plain"):  # nothing of such a group can be planned: what was planned on the other host is held against it
                    shutil.copytree(place.folder.parent / place.folder.name.replace("crowd", "host") / name, place.folder / name)
            head("seconds of CPU, crowd" if crowd else "seconds of CPU", sizes)
            for what, words in rows().items():
                if arguments.only in what or what.startswith("plan"):
                    start, *taken = [taken_by(words(place)) for place in places]
                    fine &= show(what, sizes, (start, *taken), start)
            if not crowd:
                head("seconds of CPU, VMs", arguments.vms)
                tables = [of_vms(count) for count in arguments.vms]
                for what in tables[0]:
                    if arguments.only in what or what == "plan":
                        taken = [taken_by(table[what](places[1])) for table in tables]
                        fine &= show(what, arguments.vms, taken, taken[0])
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
