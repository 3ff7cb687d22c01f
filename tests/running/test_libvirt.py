"""A domain that a real libvirt runs, with a real guest and its agent: ``verify``, ``import --running``, and the file for a report.

QEMU runs without KVM here, so the domain has a vSMMU that is not accelerated and no function of the host.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tools.cache import cache, skip_loudly
from tests.tools.libvirt import require_libvirt
from tests.tools.schemas import validator
from wizard.profile import read_profile

HERE = Path(__file__).parent
NAME = "zwiebelturm"
UUID = "31d6f82d-4308-570a-9206-f5a53d7da691"


@dataclass(frozen=True)
class Looked:
    """What libvirt.sh left: NAME.out, NAME.err and NAME.status of each step."""

    work: Path

    def text(self, step: str) -> str:
        return (self.work / f"{step}.out").read_text()

    def errors(self, step: str) -> str:
        return (self.work / f"{step}.err").read_text()

    def status(self, step: str) -> int:
        return int((self.work / f"{step}.status").read_text())

    def view(self, step: str) -> Any:
        view = json.loads(self.text(step))
        validator("verify").validate(view)
        return view


@pytest.fixture(scope="module")
def looked() -> Iterator[Looked]:
    root, guest = require_libvirt(), cache() / "guest"
    if not (guest / "version").exists():
        skip_loudly("no guest with an agent", "scripts/debian-tools --with guest makes one")
    with tempfile.TemporaryDirectory(prefix="domain-") as scratch:
        work = Path(scratch)
        xml = (HERE / "data/domain.xml").read_text().replace("WORK", scratch)
        (work / "domain.xml").write_text(xml)
        (work / "accel.xml").write_text(xml.replace('<driver pciBus="1"/>', '<driver pciBus="1" accel="on"/>'))
        words = [str(one) for one in (HERE / "libvirt.sh", root, work, guest, sys.executable)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        yield Looked(work)


def codes(view: Any) -> list[str]:
    return [finding["code"] for vm in view["vms"] for finding in vm["findings"]] + [finding["code"] for finding in view["findings"]]


def test_a_domain_is_seen_as_libvirt_and_qemu_have_it(looked: Looked) -> None:
    """Names by libvirt's aliases, which are QEMU's ids; the one bus that another file has otherwise is named."""
    assert looked.status("verify") == 0, looked.errors("verify")
    (vm,) = looked.view("verify")["vms"]
    assert (vm["name"], vm["state"], vm["against"]) == (NAME, "running", "libvirt's description of it")
    assert [(one["id"], one["bus"], one["accel"]) for one in vm["vsmmus"]] == [("iommu0", "pci.1", False)]
    assert [step["answer"] for step in vm["steps"]] == ["no", "no", "no"]
    assert (codes(looked.view("verify")), vm["unread"], vm["memory"]["guest"]) == ([], {}, 512 << 20)
    assert looked.status("other") == 1
    (finding,) = looked.view("other")["vms"][0]["findings"]
    assert f"bus_nr of pci.1 is 8, and {looked.work}/other.xml says 32" in finding["what"]


def test_what_marks_a_domain_says_so_and_nothing_else_marks_it(looked: Looked) -> None:
    """Libvirt keeps it as a message of the domain, and writes it to its log, until the domain ends."""
    monitor, agent = "tainted: custom monitor control commands issued", "tainted: custom guest agent control commands issued"
    for step, marks in (("untouched", ()), ("unmarked", ()), ("marked", (monitor,)), ("marked-more", (monitor, agent))):
        assert [mark for mark in (monitor, agent) if mark in looked.text(step)] == list(marks), step
    assert "marks the domain as tainted by it (custom-monitor)" in looked.view("verify")["vms"][0]["monitor"]
    said = [one["said"] for one in looked.view("agent")["guest"]["evidence"]]
    assert any("marks the domain as tainted by it (custom-ga-command)" in text for text in said)
    assert looked.work.joinpath("log").read_text().count("is tainted:") == 2


def test_events_of_qemu_come_through_libvirt(looked: Looked) -> None:
    """By virsh's own loop, which marks nothing (above) and ends with ``watch``."""
    assert looked.status("watch") == 0, looked.errors("watch")
    lines = [json.loads(line) for line in looked.text("watch").splitlines()]
    told = [(one["vm"], one["kind"]) for one in lines if one.get("source") == "qemu"]
    assert told == [(NAME, "STOP"), (NAME, "RESUME")]
    assert looked.text("listening") == ""


def test_a_running_domain_is_taken_over(looked: Looked) -> None:
    assert looked.status("import") == 0, looked.errors("import")
    request, findings = read_profile(looked.work / f"profiles/{NAME}.toml")
    assert (request.name, request.uuid, request.memory, findings) == (NAME, UUID, 512 << 20, [])
    assert "import-without-kvm" in looked.errors("import")
    assert looked.status("check") == 0, looked.errors("check")


def test_the_guests_agent_runs_the_script_or_says_why_not(looked: Looked) -> None:
    """Through libvirt the one that may run programs; at its own socket one that is set up as RHEL's."""
    assert looked.status("agent") == 0, looked.text("agent")
    assert looked.view("agent")["guest"]["answer"] == "no"  # nothing is accelerated there
    assert looked.status("blocked") == 1
    view = looked.view("blocked")
    assert view["guest"]["answer"] == "unknown"
    (finding,) = (one for one in view["findings"] if one["code"] == "guest-not-asked")
    assert "guest-exec and guest-exec-status are blocked" in finding["what"]
    assert "/etc/sysconfig/qemu-ga" in finding["fix"]
    assert "--guest-script" in finding["fix"]


def test_the_file_for_a_report_names_nobody(looked: Looked) -> None:
    assert looked.status("postmortem") == 0, looked.errors("postmortem")
    data = (looked.work / "postmortem.json").read_text()
    made = json.loads(data)
    validator("postmortem").validate(made)
    assert NAME not in data
    assert UUID not in data
    (log,) = made["qemu_logs"].values()
    assert "starting up libvirt version" in log
    assert made["vms"][0]["vsmmus"][0]["id"] == "iommu0"


def test_a_domain_that_has_ended_and_one_that_never_began(looked: Looked) -> None:
    """What its last start ended with is in libvirt's log."""
    assert (looked.status("gone"), codes(looked.view("gone"))) == (1, ["running-not-found"])
    assert looked.status("failed") == 1
    view = looked.view("never")
    assert codes(view) == ["running-not-found", "running-log"]
    assert "SMMUv3 accel=on requires KVM with kernel-irqchip=on support" in view["findings"][1]["what"]
