"""Preparation scripts and command lines on a live arm64 host whose kernel nests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tools.armhost import Boot, boot
from wizard.explain.short import short

pytestmark = pytest.mark.armhost


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """jobs/plans.sh: about four minutes on an idle machine."""
    options = ["--canwbs", "--inner", "--mem", "4G", "--vfs", "0"]
    return boot(Path(__file__).parent / "jobs/plans.sh", tmp_path_factory.mktemp("plans"), options, limit=3600)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """jobs/prepare.sh: about two minutes on an idle machine."""
    return boot(Path(__file__).parent / "jobs/prepare.sh", tmp_path_factory.mktemp("scripts"), ["--canwbs", "--vfs", "0"], limit=1800)


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
    explained = short(plans.errors("pair-inner"))
    assert explained is not None
    assert explained.reasons[0].finding == "group-shared"


def test_one_function_of_a_group_is_refused_and_fails(plans: Boot) -> None:
    assert "group-shared-accelerated" in plans.text("alone").split()
    console = (plans.out / "console-alone").read_text(errors="replace") if (plans.out / "console-alone").exists() else ""
    assert "CMDQ error" in console
    assert "Illegal command" in console


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("swap", "0000:14:00.0 carries swap space"),
        ("route", "0000:81:00.0 carries the default route"),
        ("half", "modprobe failed. --undo takes back what was done."),
        ("open", "is in use: process"),
        ("stranger", "there is no user nosuchuser here"),
        ("vf2-second", "0000:11:00.0 has 1 VFs, and the plan needs 2"),
        ("plug-other", "0000:41:00.0 is none of the functions that may be plugged"),
        ("piped", "the unit needs this script as a file"),
    ],
)
def test_it_stops_with_one_sentence(scripts: Boot, step: str, says: str) -> None:
    assert scripts.status(step) == 1
    assert scripts.errors(step).splitlines()[-1].startswith("STOP: ")
    assert says in scripts.errors(step).splitlines()[-1]


@pytest.mark.parametrize("step", ["refused", "half-undone", "open-undone", "none", "no-vfs", "unplugged", "after"])
def test_the_host_is_as_it_was(scripts: Boot, step: str) -> None:
    """After a refusal, after the undo of a half run, after the last of several undos."""
    assert state(scripts, f"state-{step}") == state(scripts, "state-before")


def test_a_step_that_fails_leaves_what_was_done_before_it(scripts: Boot) -> None:
    assert [words[0] for name, words in state(scripts, "state-half").items() if name[:7] == "0000:81"] == ["vfio-pci", "e1000e"]


def test_two_scripts_share_hugepages_limits_and_iommu(scripts: Boot) -> None:
    """32 pages of 2 MiB each; the second run of the first one changes nothing, and its undo leaves the other's share."""
    both, two = state(scripts, "state-both"), state(scripts, "state-two")
    assert both["pages"] == ["64"]
    assert "<-" not in scripts.text("again")
    assert two["pages"] == ["32"]
    assert 64 << 10 <= int(two["locked"][0]) < int(both["locked"][0])
    assert both["iommu"] == two["iommu"] == ["nobody"]
    assert two["0000:14:00.0"][0] == "nvme"
    assert two["0000:41:00.0"][0] == "vfio-pci"
    assert two["owner-0000:41:00.0"] == ["nobody"]


def test_the_vfs_of_two_vms(scripts: Boot) -> None:
    """The larger number first; they go with the last of the two."""
    assert scripts.status("vf1") == scripts.status("vf2") == 0
    assert state(scripts, "state-vfs")["vfs"] == ["2", "0"]
    assert state(scripts, "state-vf1")["vfs"] == ["2", "0"]
    assert state(scripts, "state-vf1")["0000:11:10.0"][0] == "vfio-pci"


def test_a_function_is_prepared_for_being_plugged(scripts: Boot) -> None:
    before, plugged = state(scripts, "state-plug-before"), state(scripts, "state-plugged")
    assert before["0000:11:10.0"] == ["(null)"]
    assert plugged["0000:11:10.0"] == ["vfio-pci", "vfio-pci"]
    assert plugged["owner-0000:11:10.0"] == ["nobody"]


def test_the_unit_comes_and_goes(scripts: Boot) -> None:
    assert len(scripts.text("installed").split()) == 3
    assert scripts.status("from-unit") == 0
    assert "done" in scripts.text("from-unit").splitlines()
    assert scripts.text("removed").split() == []
