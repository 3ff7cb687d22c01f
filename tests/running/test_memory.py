"""The tables of a QEMU that runs, by its monitor and by its gdbstub: what they say, and that nothing is changed by it."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.smmu.world import PA, SID, VA, World, world
from tests.tools.processes import LIMIT, ending, wait_until
from tests.tools.qemu import require_qemu
from wizard.arch.registers import REGISTERS
from wizard.cli.main import main
from wizard.running.monitor import SocketMonitor
from wizard.running.wire import MonitorError
from wizard.smmu import Ids

SMMU, CODE, DONE = 0x0905_0000, 0x5F00_0000, 0x5F00_1000


def program(values: dict[int, tuple[int, int]]) -> bytes:
    """AArch64 instructions that store values of some size at addresses, and then wait for ever (DDI 0487 C6: MOVZ, MOVK, STR, WFI, B)."""
    words = []
    for address, (value, size) in values.items():
        for register, content in ((0, address), (1, value)):
            words += [(0xD280_0000 if not part else 0xF280_0000) | part << 21 | (content >> 16 * part & 0xFFFF) << 5 | register for part in range(4)]
        words.append((0xF900_0000 if size == 8 else 0xB900_0000) | 0 << 5 | 1)
    return b"".join(word.to_bytes(4, "little") for word in (*words, 0xD503_207F, 0x17FF_FFFF))


@contextmanager
def guest(scratch: Path, made: World) -> Iterator[None]:
    """A QEMU whose guest has programmed the SMMU with the tables of ``made``; its monitor is ``q``, its gdbstub ``g``."""
    images: dict[int, bytearray] = {}
    for number, page in made.memory.pages.items():
        image = images.setdefault(number >> 8, bytearray(1 << 20))
        image[(number & 0xFF) << 12 : ((number & 0xFF) + 1) << 12] = page.tobytes()
    loaders: list[str] = []
    for part, image in images.items():
        (scratch / f"tables{part:x}").write_bytes(image.rstrip(b"\0") + bytes(8))
        loaders += ["-device", f"loader,file={scratch}/tables{part:x},addr={part << 20:#x},force-raw=on"]
    names = {name: (made.smmu.read(name), REGISTERS[name].size) for name in ("STRTAB_BASE", "STRTAB_BASE_CFG", "CR2", "CR0")}
    (scratch / "code").write_bytes(program({**{SMMU + REGISTERS[name].offset: word for name, word in names.items()}, DONE: (1, 8)}))
    words = [
        str(require_qemu()), "-machine", "virt,iommu=smmuv3", "-cpu", "cortex-a57", "-m", "3G", "-accel", "tcg", "-nodefaults", "-display", "none",
        *loaders, "-device", f"loader,file={scratch}/code,addr={CODE:#x},cpu-num=0",
        "-qmp", f"unix:{scratch}/q,server=on,wait=off", "-gdb", f"unix:{scratch}/g,server=on,wait=off",
        "-trace", "handle_qmp_command", "-D", f"{scratch}/trace",
    ]  # fmt: skip
    with (
        (scratch / "stderr").open("wb") as errors,
        ending(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)) as process,
    ):
        wait_until(lambda: process.poll() is not None or programmed(scratch), "its guest")
        assert process.poll() is None, (scratch / "stderr").read_text()
        yield


def programmed(scratch: Path) -> bool:
    try:
        return "0x0000000000000001" in asked(scratch, lambda monitor: monitor.show(f"xp /1gx {DONE:#x}"))
    except MonitorError:  # not yet
        return False


def asked(scratch: Path, what: Any) -> Any:
    monitor = SocketMonitor(str(scratch / "q"), None)
    try:
        return what(monitor)
    finally:
        monitor.close()


def running(scratch: Path) -> bool:
    return bool(asked(scratch, lambda monitor: monitor.ask("query-status"))["running"])


def physical(scratch: Path) -> bytes:
    """What the gdbstub says of its mode of physical addresses."""
    with socket.socket(socket.AF_UNIX) as stub:
        stub.settimeout(LIMIT)
        stub.connect(str(scratch / "g"))
        said = []
        for packet in (b"$qqemu.PhyMemMode#" + b"%02x" % (sum(b"qqemu.PhyMemMode") & 0xFF), b"$D#44"):
            stub.sendall(packet)
            told = b""
            while told.count(b"#") < 1 or len(told.rpartition(b"#")[2]) < 2:
                told += stub.recv(4096)
            stub.sendall(b"+")
            said.append(told.partition(b"$")[2].partition(b"#")[0])
        return said[0]


@pytest.mark.qemu
def test_a_running_qemu_shows_the_tables_that_its_guest_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = world("nested", Ids())
    with guest(tmp_path, made):
        for words, stands in ((["--qmp", f"{tmp_path}/q"], False), (["--gdb", f"{tmp_path}/g", "--yes"], True)):
            assert main(["tables", "streams", "--json", *words]) == 0
            out, err = capsys.readouterr()
            [stream] = json.loads(out)["streams"]
            assert (int(stream["sid"], 0), stream["config"], stream["vmid"]) == (SID, "stage 1 and 2", 7)
            assert ("runs" in err) is not stands
            assert main(["tables", "map", str(SID), "--json", *words]) == 0
            [mapped] = json.loads(capsys.readouterr().out)["mappings"]
            assert {(int(one["iova"], 0), int(one["pa"], 0), one["bytes"]) for one in mapped["ranges"]} == {(VA, PA, 0x10000)}
            assert main(["translate", str(SID), f"{VA + 8:#x}", *words]) == 0
            assert int(json.loads(capsys.readouterr().out)["pa"], 0) == PA + 8
            # No image is asked for what is no memory of the machine's: a stream table entry beyond it is not known.
            assert main(["translate", "--read", "9", f"{VA:#x}", *words, "--smmu", f"{SMMU:#x}"]) == 0
            assert json.loads(capsys.readouterr().out)["fault"]["name"] == "C_BAD_STE"
            assert running(tmp_path), "the guest goes on"
        assert physical(tmp_path) == b"0", "a gdb that comes later reads what its guest sees"
        assert main(["tables", "streams", "--gdb", f"{tmp_path}/g"]) == 2
        assert "nobody is here to be asked" in capsys.readouterr().err
        assert main(["tables", "streams", "--qmp", f"{tmp_path}/q", "--smmu", "0x1000"]) == 3
        assert f"{SMMU:#x}" in capsys.readouterr().err
        said = (tmp_path / "trace").read_text(errors="replace")
    sent = {line.split('"execute": "')[1].split('"')[0] for line in said.splitlines() if '"execute": "' in line}
    assert sent == {"qmp_capabilities", "query-status", "human-monitor-command"}


def answering(answers: list[bytes]) -> tuple[str, threading.Thread]:
    """Something that listens, takes one client, and answers each packet with the next of ``answers``; then it closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(LIMIT)

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(LIMIT)
                for answer in answers:
                    told = b""
                    while b"#" not in told:
                        if not (more := connection.recv(1 << 16)):
                            return
                        told += more
                    connection.sendall(answer)
                # What was sent is read before the end, which would else overtake the answer.
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return f"127.0.0.1:{listener.getsockname()[1]}", thread


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([], "closed the connection"),
        ([b"+$#00", b"+$#00"], "no QEMU of 4.0"),
        ([b"+$OK#00"], "sum is wrong"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "closed the connection"),
        ([b"+$0#30", b"+$OK#9a", b"+$#00"], "no monitor"),
        ([b"+$0#30", b"+$OK#9a", b"+$OK#9a", b"+$E22#a9"], "no SMMUv3"),
    ],
)
def test_what_is_no_gdbstub_is_said(answers: list[bytes], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, thread = answering(answers)
    assert main(["tables", "streams", "--gdb", name, "--yes"]) == 3
    assert why in capsys.readouterr().err
    thread.join(LIMIT)


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (["--qmp", "/nowhere/q"], 3, "there is no /nowhere/q"),
        (["--gdb", "localhost:0", "--yes"], 2, "no HOST:PORT"),
        (["--gdb", "/nowhere/g", "--yes"], 3, "Nothing listens"),
        (["--gdb", "localhost:1", "--qmp", "q"], 2, "two places"),
        (["--mem", "a@0", "--registers", "b", "--smmu", "0x1000"], 2, "--smmu is for"),
    ],
)
def test_what_can_not_be_looked_at_is_said(words: list[str], status: int, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "streams", *words]) == status
    assert why in capsys.readouterr().err
