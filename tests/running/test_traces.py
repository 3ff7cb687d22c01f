"""The one thing that ``verify`` changes: trace events of a real QEMU, switched on for a while and off again whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running.servers import GREETING, returning, serving
from tests.tools.processes import LIMIT, ending, wait_until
from wizard.export.qemu import TRACES
from wizard.running.model import Answer
from wizard.running.monitor import SocketMonitor
from wizard.running.process import look
from wizard.running.traces import Followed, Trace, came_to, interruptible, log_of, read_traces, step_of, wait
from wizard.running.wire import MonitorError

# Seen with QEMU 11.1.2 on the emulated arm64 host (docs/sources/running.md), "pid@time:" as its log back end puts it in front.
LINES = """\
4711@1764300000.000001:smmuv3_read_mmio addr: 0x0 val:0xd44101a size: 0x4(0)
4711@1764300000.000002:smmuv3_read_mmio addr: 0x4 val:0x2730010 size: 0x4(0)
4711@1764300000.000003:smmuv3_read_mmio addr: 0xc val:0x1404 size: 0x4(0)
4711@1764300000.000004:smmuv3_read_mmio addr: 0x14 val:0x74 size: 0x4(0)
smmuv3_accel_install_ste vSID=0x900 ste type=bypass hwpt_id=0x6
smmuv3_accel_install_ste vSID=0x900 ste type=translate hwpt_id=0x9
iommufd_backend_invalidate_cache  iommufd=23 id=4 data_type=1 entry_len=16 entry_num=1 done_num=1 data_ptr=0xffffde11f1c8 (0)
iommufd_backend_invalidate_cache  iommufd=23 id=4 data_type=1 entry_len=16 entry_num=1 done_num=1 data_ptr=0xffffde11f1c8 (0)
iommufd_backend_invalidate_cache  iommufd=23 id=5 data_type=1 entry_len=16 entry_num=1 done_num=0 data_ptr=0xffffde11f1c8 (-5)
qemu-system-aarch64: warning: IOMMU_IOAS_MAP failed: Bad address, PCI BAR?
""".splitlines()


def test_what_the_lines_say() -> None:
    traced = read_traces(LINES)
    assert traced.invalidated == {4: 2}
    assert traced.failed == 1
    assert traced.configured == {0x900: "translate"}
    # The same guest's kernel said "oas 44-bit"; IDR0.ATS, IDR1.SSIDSIZE and IDR3.RIL by IHI 0070 6.3.1, 6.3.2 and 6.3.4.
    assert {name: value.split(" ")[0] for name, value in came_to(traced).items()} == {"ats": "off", "ssidsize": "0", "ril": "on", "oas": "44"}


def test_no_line_is_no_proof_of_bypass() -> None:
    """A guest that has nothing to do, one that bypasses and one in lazy mode look the same."""
    assert step_of(read_traces([]), 1, 5).answer is Answer.UNKNOWN
    assert step_of(read_traces(LINES), 1, 5).answer is Answer.YES
    assert step_of(read_traces(LINES), 2, 5).answer is Answer.PARTLY
    assert step_of(read_traces([]), 1, 5, TRACES).said == "This QEMU has no such trace event."


def test_a_log_that_is_rotated_cut_or_moved_is_read_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    followed = Followed(log)
    with log.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert list(followed.lines()) == ["one"]
        os.rename(log, tmp_path / "log.0")
        assert list(followed.lines()) == []
        file.write("o\n")
    log.write_text("three\n")
    assert list(followed.lines()) == ["two", "three"]
    log.write_text("4\n")  # cut in place (copytruncate)
    assert list(followed.lines()) == ["4"]
    followed.close()


class Traced:
    """A QEMU with two monitors: one to trace by, one to look by."""

    def __init__(self, directory: Path, pid: int) -> None:
        self.directory, self.pid = directory, pid

    def monitor(self, name: str = "q") -> SocketMonitor:
        return SocketMonitor(str(self.directory / name), self.pid)

    def trace(self) -> Trace:
        return Trace(self.monitor(), self.directory / "errors", self.monitor)

    def states(self) -> list[str]:
        looking = self.monitor("p")
        found = [looking.ask("trace-event-get-state", name=name)[0]["state"] for name in TRACES]
        looking.close()
        return found


@contextmanager
def traced(qemu: Path, directory: Path, *more: str) -> Iterator[Traced]:
    words = [str(qemu), "-M", "none", "-nodefaults", "-display", "none", *more]
    for name in ("q", "p"):
        words += ["-qmp", f"unix:{directory}/{name},server=on,wait=off"]
    with (directory / "errors").open("wb") as errors, ending(subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=errors)) as process:
        one = Traced(directory, process.pid)

        def answers() -> bool:
            try:
                one.monitor("p").close()
                one.monitor().close()
            except MonitorError:
                assert process.poll() is None, (directory / "errors").read_text()
                return False
            return True

        wait_until(answers, "its monitors")
        yield one


@pytest.mark.qemu
def test_what_was_off_is_on_for_a_while_and_off_again(qemu: Path, tmp_path: Path) -> None:
    with traced(qemu, tmp_path) as one:
        assert one.states() == ["disabled", "disabled"]
        with one.trace() as trace:
            assert one.states() == ["enabled", "enabled"]
            with (tmp_path / "errors").open("a") as log:
                log.write("\n".join(LINES) + "\n")
            wait([(trace, 1)], LIMIT)  # ends as soon as it was seen
            assert trace.traced().invalidated == {4: 2}
        assert one.states() == ["disabled", "disabled"]
        # By an error, and by being told to end: the same.
        with pytest.raises(RuntimeError), one.trace():
            raise RuntimeError
        assert one.states() == ["disabled", "disabled"]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with pytest.raises(KeyboardInterrupt):
                _told_to_end(one, number)
            assert one.states() == ["disabled", "disabled"]


def _told_to_end(one: Traced, number: signal.Signals) -> None:
    with interruptible(), one.trace() as trace:
        os.kill(os.getpid(), number)
        wait([(trace, 1)], LIMIT)


@pytest.mark.qemu
def test_what_was_on_stays_on(qemu: Path, tmp_path: Path) -> None:
    with traced(qemu, tmp_path, "-trace", TRACES[0]) as one:
        with one.trace():
            assert one.states() == ["enabled", "enabled"]
        assert one.states() == ["enabled", "disabled"]


@pytest.mark.qemu
def test_the_log_is_found_where_qemu_writes_to(qemu: Path, tmp_path: Path) -> None:
    with traced(qemu, tmp_path, "-D", f"{tmp_path}/traces") as one:
        process = look(one.pid, _began(one.pid))
        assert process is not None
        assert process.log == f"{tmp_path}/errors"
        found = log_of(process, None, libvirt=False)
        assert found is not None
        assert os.path.samefile(found, tmp_path / "traces")


def _began(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_a_monitor_that_is_lost_meanwhile_is_connected_anew_and_what_stays_on_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    lost = False

    def answer(asked: dict[str, object]) -> bytes:
        if asked["execute"] == "trace-event-get-state":
            return returning(asked, [{"name": "x", "state": "disabled"}])
        return b"" if lost and asked["execute"] == "trace-event-set-state" else returning(asked, {})

    with serving(tmp_path / "q", GREETING, answer) as sent:

        def connect() -> SocketMonitor:
            return SocketMonitor(str(tmp_path / "q"), os.getpid(), answer=5.0)

        with Trace(connect(), tmp_path / "log", connect) as trace:
            lost = True
        assert trace.left_on == list(TRACES)
    assert sum(one["execute"] == "qmp_capabilities" for one in sent) > 1
