"""``verify`` on a real QEMU: without KVM and functions, with everything else as a plan has it; QEMU itself says which commands reached it."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.tools.hosts import FIXTURES, NVME, VF0, host, planned
from tests.tools.processes import LIMIT, wait_until
from tests.tools.schemas import validator
from tests.tools.vms import started
from wizard.cli.main import main
from wizard.plan.model import VmPlan
from wizard.profile import write_profile
from wizard.running.verify import World, find
from wizard.running.verify import verify as look_at

pytestmark = pytest.mark.qemu
ONLY_READ = {
    "qmp_capabilities", "query-name", "query-status", "query-version", "query-kvm", "query-migrate", "query-pci", "query-cpus-fast",
    "query-memory-size-summary", "qom-list", "qom-get",
}  # fmt: skip
"""By QEMU's own documentation (qapi/*.json); qmp_capabilities ends the negotiation and changes nothing of the VM."""


def verify(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    capsys.readouterr()
    status = main(["verify", *words, "--json"])
    view = json.loads(capsys.readouterr().out)
    validator("verify").validate(view)
    return status, view


def codes(view: Any) -> list[str]:
    return [finding["code"] for vm in view["vms"] for finding in vm["findings"]] + [finding["code"] for finding in view["findings"]]


@pytest.fixture
def plan(request: pytest.FixtureRequest) -> VmPlan:
    return planned(NVME, VF0, name=f"verify-{abs(hash(request.node.nodeid)) % 10**8}")  # other tests may run one at the same time


def test_what_it_is_and_what_it_should_be(qemu: Path, tmp_path: Path, plan: VmPlan, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "vm.toml"
    profile.write_text(write_profile(plan, host()))
    against = (str(profile), "--replay", str(FIXTURES / "arm64-virt-canwbs.json"))
    with started(qemu, tmp_path, plan, "-S") as vm:
        status, view = verify(capsys, plan.name)
        (seen,) = view["vms"]
        assert (status, seen["pid"], seen["state"]) == (0, vm.process.pid, "prelaunch")
        assert [step["answer"] for step in seen["steps"]] == ["no", "no", "no"]
        assert [one["id"] for one in seen["vsmmus"]] == [one.id for one in plan.vsmmus]
        assert "running-paused" in codes(view)
        # Stand-ins are no functions, and without KVM there is no accel: of all that the plan says, these alone differ.
        status, view = verify(capsys, *against)
        assert status == 1
        differing = [finding["what"] for finding in view["vms"][0]["findings"] if finding["code"] == "running-differs"]
        assert [text for text in differing if "accel of" not in text and not re.search(r"(ats|ril|ssidsize|oas|cmdqv) of", text)] == []
        assert any("accel of smmuv3.1 is off" in text for text in differing)
        assert codes(view).count("running-function-missing") == len(plan.devices)
        # Another bus number, and another memory, are named.
        other = profile.read_text().replace(f"bus_nr = {plan.buses[0].bus_nr}", "bus_nr = 100").replace('size = "4G"', 'size = "5G"')
        profile.write_text(other)
        told = " ".join(finding["what"] for finding in verify(capsys, *against)[1]["vms"][0]["findings"])
        assert f"bus_nr of pcie.1 is {plan.buses[0].bus_nr}, and {profile} says 100" in told
        # Its guest can't be asked: what was seen from outside is told all the same, and what to do.
        status, view = verify(capsys, plan.name, "--guest", "agent")
        assert (status, view["guest"]["answer"], len(view["vms"])) == (1, "unknown", 1)
        (finding,) = (one for one in view["findings"] if one["code"] == "guest-not-asked")
        assert "the VM has no port org.qemu.guest_agent.0 with a socket" in finding["what"]
        assert "--guest agent:SOCKET" in finding["fix"]
        assert main(["verify", plan.name]) == 0
        assert "by construction: no. QEMU has no function of the host." in capsys.readouterr().out
        assert set(vm.asked()) <= ONLY_READ
        assert "qom-get" in vm.asked()


def test_silence_has_a_reason(qemu: Path, tmp_path: Path, plan: VmPlan, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that is stopped, a client that holds the only connection, and another process's socket are three things."""
    with started(qemu, tmp_path, plan) as vm:
        vm.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{vm.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "its stop")
        view = verify(capsys, plan.name)[1]
        assert "running-process-stopped" in codes(view)
        assert "running-monitor-silent" not in codes(view)
        vm.process.send_signal(signal.SIGCONT)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT)
            client.connect(str(vm.socket))
            assert client.recv(1) == b"{"
            world = World(answer=1.0)
            (seen,) = look_at(find([plan.name], [], world)[0], world)
            (finding,) = (one for one in seen.findings if one.code == "running-monitor-silent")
            assert "another client has its only connection" in finding.what
        other = tmp_path / "other"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(other))
            listening.listen()
            status, view = verify(capsys, plan.name, "--qmp", str(other))
            assert status == 1
            assert "running-socket-foreign" in codes(view)
        assert "running-socket-foreign" not in codes(verify(capsys, plan.name, "--qmp", str(vm.socket))[1])
        assert set(vm.asked()) <= ONLY_READ
    assert main(["verify", plan.name]) == 3


def test_a_postmortem_has_everything_and_names_nobody(qemu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name of the VM and its UUID are somebody's: of a VM that runs and of one that does not."""
    secret = "Zwiebelturm-7"
    named = planned(NVME, VF0, name=secret)
    file, profile = tmp_path / "out" / "pm.json", tmp_path / "vm.toml"
    file.parent.mkdir()
    profile.write_text(write_profile(named, host()))
    with started(qemu, tmp_path, named, "-S") as vm:
        words = ["verify", str(profile), "--postmortem", str(file), "--replay", str(FIXTURES / "arm64-virt-canwbs.json")]
        assert main(words) == 0
        assert main(words) == 2  # it is there already
        data = file.read_text()
        made = json.loads(data)
        validator("postmortem").validate(made)
        assert [one["pid"] for one in made["vms"]] == [vm.process.pid]
        assert "arm-smmuv3" in " ".join(made["command_lines"][str(vm.process.pid)])
        assert "[machine]" in next(iter(made["profiles"].values()))
        assert made["snapshot"]["format"] == "smmu-wizard-snapshot"
        assert made["explained"]["lines"] > 0
    for told in (secret, named.uuid):
        assert told not in data
    assert file.stat().st_mode & 0o077 == 0
    assert main(["verify", "nobody-is-called-so", "--postmortem", str(tmp_path / "gone.json"), "--demo"]) == 0
    assert json.loads((tmp_path / "gone.json").read_text())["vms"] == []
    capsys.readouterr()
