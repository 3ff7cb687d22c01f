"""QEMUs that are too old, that are none, that hang or die: said, ended, and what could be asked stands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jsonschema
import psutil
import pytest

from tests.rehearsal.said import said
from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT
from tests.tools.qemu import require_firmware, require_old_qemu
from tests.tools.requests import SETS, planned_ok
from wizard.base.errors import ProgramError
from wizard.dryrun.model import Cancelled
from wizard.rehearsal.qemu import rehearse

pytestmark = pytest.mark.qemu


def test_an_old_qemu_says_what_it_can_not_do_and_checks_the_rest() -> None:
    report = rehearse(planned_ok(SETS["two SMMUs"]), str(require_old_qemu()))
    assert report.version is not None
    assert report.version.startswith("10.0.")
    assert report.ok, report.findings
    subjects = {check.subject for check in report.checks}
    assert {"root buses", "pcie.1.port1 place", "dev0 parent bus"} <= subjects
    assert not any(subject.startswith("smmuv3") for subject in subjects)
    assert [text.partition(":")[0] for text in report.left_out] == ["vSMMUs", "DMA"]


def test_a_qemu_without_qtest_says_that_there_is_no_dma() -> None:
    """Debian's QEMU 10.0 was built without the accelerator; nothing here needs a vSMMU."""
    report = rehearse(planned_ok(SETS["group without"]), str(require_old_qemu()))
    assert report.ok, report.findings
    assert {check.part for check in report.checks} == {"topology"}
    [left_out] = report.left_out
    assert left_out.startswith("DMA: this QEMU has no qtest accelerator")
    assert any("virt is taken" in note for note in report.notes)


def qemus() -> list[psutil.Process]:
    """The QEMUs that this process has started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie counts as none
            if "-qmp" in child.cmdline():
                found.append(child)
    return found


@contextmanager
def sabotage(what: signal.Signals) -> Iterator[None]:
    """Send a signal to QEMU once UEFI runs in it: no earlier, else it would not have taken its command line yet."""
    over = threading.Event()

    def wait() -> None:
        while not over.wait(0.05):
            for process in qemus():
                with suppress(psutil.NoSuchProcess):
                    if process.cpu_times().user > 0.5:
                        process.send_signal(what)
                        return

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LIMIT)


def test_a_qemu_that_dies_is_reported(qemu: Path) -> None:
    with sabotage(signal.SIGKILL):
        report = rehearse(planned_ok(SETS["two SMMUs"]), str(qemu), firmware=require_firmware())
    [finding] = report.findings
    said("rehearsal-ended", [finding])


def test_a_qemu_that_hangs_is_ended_and_reported(qemu: Path) -> None:
    with sabotage(signal.SIGSTOP):
        report = rehearse(planned_ok(SETS["two SMMUs"]), str(qemu), firmware=require_firmware(), patience=10)
    [finding] = report.findings
    assert finding.code == "rehearsal-ended"
    assert "it was not done after 10 seconds" in finding.what
    assert not qemus()


@pytest.mark.parametrize("after", ["the", "writes"])
def test_it_can_be_stopped_and_leaves_no_qemu(after: str, qemu: Path) -> None:
    said: list[str] = []
    with pytest.raises(Cancelled):
        rehearse(planned_ok(SETS["per function"]), str(qemu), progress=said.append, stop=lambda: bool(said) and said[-1].startswith(after))
    assert said[-1].startswith(after)
    assert not qemus()


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (None, "There is no program"),
        ("#!/bin/sh\nexit 3\n", "does not start: it ended with status 3"),
        ("#!/bin/sh\necho 'no, thank you' >&2\nexit 1\n", "does not start: no, thank you"),
        ("\0\1\2", "does not start"),
    ],
)
def test_what_is_no_qemu_is_status_4(program: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "no-qemu"
    if program is not None:
        path.write_text(program)
        path.chmod(0o755)
    with pytest.raises(ProgramError, match=says):
        rehearse(planned_ok(SETS["beside"]), str(path))


def test_the_command_reports_as_json_and_says_what_it_does(qemu: Path, tmp_path: Path) -> None:
    def wizard(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "wizard", *words], capture_output=True, text=True, check=False, cwd=PROJECT, timeout=LIMIT)

    assert wizard("--demo", "plan", "--vm", "web=0000:14:00.0", "-o", str(tmp_path)).returncode == 0
    done = wizard("--demo", "rehearse", str(tmp_path / "web.toml"), "--qemu", str(qemu), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    schema = json.loads(wizard("schema", "rehearse").stdout)
    jsonschema.Draft202012Validator(schema).validate(report)
    assert report["version"]
    assert {check["part"] for check in report["checks"]} == {"topology", "dma", "reads"}
    assert "through QEMU's SMMUv3 …" in done.stderr
    missing = wizard("--demo", "rehearse", str(tmp_path / "web.toml"), "--qemu", str(tmp_path / "nothing"))
    assert missing.returncode == 4
    assert "Traceback" not in missing.stderr
