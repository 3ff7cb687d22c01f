"""Preparation scripts and command lines on a live arm64 host whose kernel nests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tools.armhost import Boot, boot

pytestmark = pytest.mark.armhost


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """jobs/plans.sh: about four minutes on an idle machine."""
    options = ["--canwbs", "--inner", "--mem", "4G", "--vfs", "0"]
    return boot(Path(__file__).parent / "jobs/plans.sh", tmp_path_factory.mktemp("plans"), options, limit=3600)


def state(made: Boot, step: str) -> dict[str, list[str]]:
    """What the host's state was: the words after the first of each line."""
    return {line.split()[0]: line.split()[1:] for line in made.text(step).splitlines()}


def test_bind_binds_and_its_undo_gives_back(plans: Boot) -> None:
    assert plans.status("bind-run") == 0, plans.errors("bind-run")
    before, bound, after = (state(plans, f"state-{when}") for when in ("before", "bound", "after"))
    for function in ("0000:14:00.0", "0000:81:00.0", "0000:81:00.1"):
        assert bound[function][0] == "vfio-pci"
        assert after[function] == before[function]


def test_vfs_are_made_where_they_were_predicted(plans: Boot) -> None:
    assert plans.text("vfs").split() == []
    assert plans.status("vfs-run") == 0, plans.errors("vfs-run")
    made = state(plans, "state-vfs")
    assert made["vfs"] == ["2", "0"]
    assert made["0000:11:10.0"] == made["0000:11:10.2"] == ["vfio-pci", "vfio-pci"]
    smmu = "smmu3.0x000000000c000000"
    assert plans.text("vfs-links").split() == ["0000:11:00.0", smmu, "0000:11:10.0", "0000:11:00.0", smmu, "0000:11:10.2"]


def test_the_user_gets_devices_and_limits(plans: Boot) -> None:
    made = state(plans, "state-vfs")
    assert "nobody" in [words[-1] for name, words in made.items() if name.startswith("/dev/vfio/devices/")]
    assert re.search(r"^nobody hard memlock \d{6,}$", plans.text("state-vfs"), flags=re.M)


def test_a_dry_run_changes_nothing_and_says_everything(plans: Boot) -> None:
    assert plans.status("vfs-dry") == 0
    assert plans.text("state-dry") == plans.text("state-bound")
    assert "sriov_numvfs <- 2" in plans.text("vfs-dry")


def test_running_it_again_changes_nothing(plans: Boot) -> None:
    assert plans.status("vfs-again") == 0
    assert "<-" not in plans.text("vfs-again")


@pytest.mark.parametrize(("step", "says"), [("other-device", "8086:1234 in the plan"), ("other-host", "not the host"), ("not-root", "needs root")])
def test_it_stops_where_something_differs(plans: Boot, step: str, says: str) -> None:
    assert plans.status(step) == 1
    assert says in plans.errors(step)


def test_undo_takes_everything_back(plans: Boot) -> None:
    assert plans.status("vfs-undo") == 0, plans.errors("vfs-undo")
    assert state(plans, "state-undone") == state(plans, "state-bound")


def test_auto_properties_start_and_data_moves(plans: Boot) -> None:
    assert plans.text("auto").split() == []
    assert plans.status("auto-prepare-run") == 0
    assert plans.status("auto-inner") == 0, plans.errors("auto-inner")
    console = (plans.out / "console-auto").read_text(errors="replace")
    assert "INNER-DMA-OK" in console
    # The predicted guest address: the first port of bus 8 gets bus 9.
    assert "INNER-PCI 0000:09:00.0 0x1b36 0x0010" in console


def test_two_functions_of_one_group_are_refused_and_fail(plans: Boot) -> None:
    assert "group-shared-accelerated" in plans.text("pair").split()
    assert plans.status("pair-inner") != 0
    assert "Invalid argument" in plans.errors("pair-inner")


def test_one_function_of_a_group_is_refused_and_fails(plans: Boot) -> None:
    assert "group-shared-accelerated" in plans.text("alone").split()
    console = (plans.out / "console-alone").read_text(errors="replace") if (plans.out / "console-alone").exists() else ""
    assert "CMDQ error" in console
    assert "Illegal command" in console
