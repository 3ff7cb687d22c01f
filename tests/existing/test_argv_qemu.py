"""Where devices are, held against QEMU's own answer: the same command line with stand-ins, paused, and its tree of buses and devices."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import cast

import pytest

from tests.existing.test_samples import DATA, EXPECTED
from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.processes import LIMIT
from tests.tools.qemu import require_qemu
from wizard.existing.argv import read_argv
from wizard.existing.guest import Bridge, Vsmmu
from wizard.existing.qemu.grammar import grammar
from wizard.existing.qemu.options import Option, read_options
from wizard.existing.words import Command, Word, read_commands
from wizard.rehearsal.process import running
from wizard.rehearsal.report import Refused

pytestmark = pytest.mark.qemu
RANDOM = 24
_PLACE = ("id", "bus", "addr", "multifunction")
_DROPPED = {
    "enable-kvm", "accel", "cpu", "chardev", "mon", "qmp", "serial", "bios", "sandbox", "S", "display", "nographic", "audiodev", "uuid", "name",
    "fw_cfg",
    "overcommit", "msg", "rtc", "boot", "no-user-config", "no-shutdown",
}  # fmt: skip

Place = tuple[str, str, str, tuple[int, int], tuple[tuple[str, int], ...]]
"""driver, id, bus, (slot, function), numbers"""
_NUMBERS = {"pxb-pcie": ("bus_nr", "numa_node"), "pcie-root-port": ("chassis", "port")}


def _standing_in(option: Option) -> list[str]:
    """What of an option a QEMU without KVM, VFIO and files can take; what decides a place stays as it is written."""
    keys = {key.name: key.text for key in option.keys}
    match option.name:
        case name if name in _DROPPED:
            return []
        case "machine":
            kept = [f"{name}={keys[name]}" for name in ("type", "gic-version", "highmem-mmio-size", "memory-backend") if name in keys]
            return ["-machine", ",".join(kept)] if kept else []
        case "device":
            return _device(option, keys)
        case "object" if keys["qom-type"].startswith("memory-backend"):
            return ["-object", f"memory-backend-ram,id={keys['id']},size={keys['size']},reserve=off"]
        case "object":
            return []
        case "drive" if keys.get("if") == "pflash":
            return []
        case "drive":
            kept = [f"{name}={keys[name]}" for name in ("if", "id", "index", "media") if name in keys]
            return ["-drive", ",".join(["file=null-co://", "format=raw", *kept])]
        case "blockdev" if "pflash" in keys["node-name"] or keys["driver"] == "file":
            return []
        case "blockdev":
            return ["-blockdev", f"driver=null-co,node-name={keys['node-name']}"]
        case "netdev":
            return ["-netdev", f"hubport,id={keys['id']},hubid=1"]
        case "nic":
            return ["-nic", "none" if keys["type"] == "none" else ",".join(["user", *(f"model={keys[n]}" for n in ("model",) if n in keys)])]
    return [option.word.text, *([option.value.text] if option.value is not None else [])]


def _device(option: Option, keys: dict[str, str]) -> list[str]:
    driver = keys["driver"]
    if option.value is None:
        return []
    if driver in ("vfio-pci", "vfio-pci-nohotplug", "arm-smmuv3", "e1000"):
        kept = [f"{name}={keys[name]}" for name in (*_PLACE, "primary-bus") if name in keys]
        driver = "virtio-net-pci" if driver.startswith("vfio") else driver
        if option.json:  # a device in JSON is made after all others, so it stays one
            quoted = [f'"{one.partition("=")[0]}":"{one.partition("=")[2]}"' for one in kept if not one.startswith("multifunction=")]
            return ["-device", "{" + ",".join([f'"driver":"{driver}"', *quoted]) + "}"]
        return ["-device", ",".join([driver, *kept])]
    return ["-device", option.value.text]


async def _tree(words: list[str], scratch: Path) -> str:
    start = ["-display", "none", "-accel", "tcg", "-cpu", "max", *words]
    async with running(str(require_qemu()), start, str(scratch)) as client:
        return cast(str, await client.execute("human-monitor-command", {"command-line": "info qtree"}))


def _asked(text: str) -> list[Place]:
    """Every PCI device of "info qtree" but the host bridge."""
    found: list[Place] = []
    stack: list[tuple[int, str]] = []  # buses by their indentation
    lines = text.splitlines()
    for number, line in enumerate(lines):
        depth = len(line) - len(line.lstrip())
        stack = [one for one in stack if one[0] < depth]
        if bus := re.fullmatch(r"\s*bus: (.*)", line):
            stack.append((depth, bus[1]))
        elif (device := re.fullmatch(r'\s*dev: ([\w.-]+), id "(.*)"', line)) and stack:
            own: dict[str, str] = {}
            for follows in lines[number + 1 :]:
                if len(follows) - len(follows.lstrip()) <= depth or re.match(r"\s*(bus|dev):", follows):
                    break
                name, _, value = follows.strip().partition(" = ")
                own.setdefault(name, value)
            if "addr" in own and device[1] != "gpex-root":
                slot, _, function = own["addr"].partition(".")
                numbers = tuple((name, int(own[name].split()[0])) for name in _NUMBERS.get(device[1], ()))
                found.append((device[1], device[2], stack[-1][1], (int(slot, 16), int(function, 16)), numbers))
    return found


def _read(command: Command) -> list[Place]:
    found: list[Place] = []
    for device in read_argv(command, "x").devices:
        if isinstance(device, Vsmmu):
            continue
        driver = "virtio-net-pci" if device.driver.startswith("vfio") else device.driver
        id = "" if "id" in device.implied else device.id or ""
        numbers = tuple((name, getattr(device, name)) for name in _NUMBERS.get(driver, ())) if isinstance(device, Bridge) else ()
        numbers = tuple((name, 128 if value is None else value) for name, value in numbers)  # NUMA_NODE_UNASSIGNED
        assert device.bus is not None
        assert device.slot is not None
        found.append((driver, id, device.bus, (device.slot, device.function or 0), numbers))
    return found


def test_the_table_is_what_qemu_says() -> None:
    """Of the QEMU that it names; another has other words."""
    qemu = require_qemu()
    version = subprocess.run([qemu, "--version"], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    if f"version {grammar().version} " not in version:
        skip_loudly(f"the words of QEMU {grammar().version} can't be asked of another", "scripts/qemu-grammar renews them")
    words = [sys.executable, str(PROJECT / "scripts/qemu-grammar"), "--check", str(qemu)]
    assert subprocess.run(words, timeout=2 * LIMIT, check=False).returncode == 0


@pytest.mark.parametrize("name", EXPECTED)
def test_sample(name: str, tmp_path: Path) -> None:
    """Every device of a sample is where QEMU puts it."""
    (command,) = read_commands((DATA / name).read_bytes(), name).commands
    words = [word for option in read_options(command.words)[0] for word in _standing_in(option)]
    if name == "secretary.sh":  # what is wrong with it is what QEMU refuses
        with pytest.raises(Refused, match=r"Duplicate (device )?ID 'dev1'"):
            asyncio.run(_tree(words, tmp_path))
        return
    assert sorted(_read(command)) == sorted(_asked(asyncio.run(_tree(words, tmp_path))))


def _command_line(random: Random) -> list[str]:
    """Expanders, ports, bridges, switches and devices, with and without bus, addr, id and defaults, some of them in JSON."""
    words: list[str] = ["-machine", "virt"] + (["-nodefaults"] if random.random() < 0.6 else [])
    expanders: list[str] = []
    ports: list[str] = []
    chassis = 0
    for number in range(random.randint(3, 9)):
        kind = random.choice(["pxb", "port", "port", "end", "end", "nic", "drive", "bridge"])
        keys: dict[str, str] = {}
        match kind:
            case "nic":
                words += ["-nic", random.choice(["user", "user,model=e1000", "user,mac=52:54:00:00:00:01"])]
                continue
            case "drive":
                words += ["-drive", "file=null-co://,format=raw" + random.choice([",if=virtio", ""])]
                if expanders:
                    words[-1] += ",if=none"  # QEMU would put it on the expander, and refuse
                continue
            case "pxb":
                keys = {"driver": "pxb-pcie", "id": f"x{number}", "bus_nr": str(32 + 8 * number)}
                if expanders or random.random() < 0.5:
                    keys["bus"] = "pcie.0"
                expanders.append(keys["id"])
            case "port":
                chassis += 1
                keys = {"driver": "pcie-root-port", "chassis": str(chassis)} | ({"id": f"r{number}"} if random.random() < 0.8 else {})
                if random.random() < 0.6:
                    keys["bus"] = random.choice(["pcie.0", *expanders])
                if random.random() < 0.3:
                    keys["addr"] = random.choice([f"{random.randrange(10, 16):x}", f"0x{random.randrange(16, 28):x}.0"])
                if "id" in keys:
                    ports.append(keys["id"])
            case "bridge":
                keys = {"driver": "pcie-pci-bridge", "id": f"b{number}", "bus": "pcie.0"}
            case _:
                keys = {"driver": random.choice(["virtio-net-pci", "virtio-rng-pci", "nvme-subsys", "virtio-serial"])}
                if keys["driver"] == "nvme-subsys":
                    keys = {"driver": "virtio-balloon-pci"}
                free = [port for port in ports if f"bus={port}" not in " ".join(words).replace('"bus":"', "bus=")]
                keys["bus"] = random.choice(["pcie.0", *free]) if free or expanders or random.random() < 0.5 else ""
                if not keys["bus"]:
                    del keys["bus"]
                if random.random() < 0.4:
                    keys["id"] = f"e{number}"
        if kind == "end" and keys.get("bus", "pcie.0") != "pcie.0" and random.random() < 0.4:
            quoted = (f'"{name}":"{value}"' for name, value in keys.items())
            words += ["-device", "{" + ", ".join(quoted) + "}"]
        else:
            words += ["-device", ",".join([keys.pop("driver"), *(f"{name}={value}" for name, value in keys.items())])]
    return words


def test_random(tmp_path: Path) -> None:
    """Whatever is left out, devices are where QEMU puts them; most of the lines are such that it takes them."""
    agreed = 0
    for number in range(RANDOM):
        words = _command_line(Random(f"places {number}"))
        command = Command(program=Word(text="qemu-system-aarch64", source="x"), words=tuple(Word(text=word, source="x") for word in words))
        ours = _read(command)
        try:
            asked = _asked(asyncio.run(_tree(words, tmp_path)))
        except Refused:
            continue
        # A bridge without an id has a bus that QEMU numbers; what sits on it can't be said here.
        assert sorted(ours) == sorted(asked), words
        agreed += 1
    assert agreed > RANDOM * 2 // 3
