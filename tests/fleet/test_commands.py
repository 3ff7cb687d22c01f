"""``diff``, ``baseline``, ``match``, ``engine`` and ``check`` on another host, as a script sees them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.fleet.hosts import bound, write
from tests.tools.commands import Output, said
from tests.tools.hosts import FIXTURES, facts
from wizard.base.errors import UsageError
from wizard.cli import fleet
from wizard.cli.parser import parse
from wizard.fleet.baseline import BaselineView
from wizard.fleet.diff import DiffView
from wizard.fleet.place import MatchView

CANWBS = str(FIXTURES / "vfio-arm64-virt-canwbs.json")
REFUSED = str(FIXTURES / "vfio-arm64-virt.json")
REQUEST = 'name = "net"\ncount = 2\n[memory]\nsize = "512M"\n[[device]]\nclass = "02"\n'


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    path = tmp_path / "request.toml"
    path.write_text(REQUEST)
    return str(path)


def test_diff_is_zero_whatever_it_says(capsys: Output) -> None:
    status, out, _ = said(capsys, "diff", CANWBS, REFUSED)
    assert status == 0
    assert "0000:14:00.0  accel: yes → no" in out
    assert "[verdict-lost]" in out
    status, out, _ = said(capsys, "diff", CANWBS, CANWBS)
    assert status == 0
    assert "Nothing that matters to a VM differs." in out


def test_diff_as_json_is_its_model(capsys: Output) -> None:
    status, out, _ = said(capsys, "diff", CANWBS, REFUSED, "--json")
    assert status == 0
    view = msgspec.json.decode(out, type=DiffView)
    assert view.schema == 1
    assert {finding.code for finding in view.findings} == {"verdict-lost"}
    assert json.loads(out)["changes"][0].keys() >= {"area", "what", "subject", "field", "before", "after", "before_source", "after_source"}


def test_diff_with_profiles(capsys: Output, tmp_path: Path, request_file: str) -> None:
    assert said(capsys, "match", request_file, CANWBS, "--no-index", "-o", str(tmp_path / "out"))[0] == 0
    profile = str(tmp_path / "out" / "net-1.toml")
    status, out, _ = said(capsys, "diff", CANWBS, REFUSED, "--profile", profile)
    assert status == 0
    assert f"Profile {profile} (VM net-1): holds on A, does not hold on B." in out
    assert "[profile-broken]" in out


def test_an_unreadable_side_is_status_3(capsys: Output, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    for words in (["diff", CANWBS, str(bad)], ["diff", str(tmp_path / "absent.json"), CANWBS], ["baseline", str(bad), "--no-index"]):
        status, out, err = said(capsys, *words)
        assert (status, out) == (3, "")
        assert len(err.strip().splitlines()) == 2, err


def test_baseline_and_its_template(capsys: Output, tmp_path: Path) -> None:
    template = tmp_path / "base.toml"
    words = ["baseline", CANWBS, str(FIXTURES / "host-in-use.json"), "--class", "02", "--index", str(tmp_path / "index"), "-o", str(template)]
    status, out, _ = said(capsys, *words)
    assert status == 0
    assert "ril       on" in out
    assert tomllib.loads(template.read_text())["properties"]["ril"] == "on"
    before = template.read_text()
    status, _, err = said(capsys, *words)
    assert status == 2  # never over somebody's edits
    assert "--force" in err
    assert template.read_text() == before
    assert said(capsys, *words, "--force")[0] == 0


def test_a_baseline_that_not_every_host_can_supply_is_status_1(capsys: Output, tmp_path: Path) -> None:
    status, out, err = said(capsys, "baseline", CANWBS, REFUSED, "--no-index", "--class", "02", "--json", "-o", str(tmp_path / "base.toml"))
    assert status == 1
    view = msgspec.json.decode(out, type=BaselineView)
    assert view.baseline is None
    assert view.able is not None
    assert [one.code for one in view.unable] == ["no-canwbs"]
    assert not (tmp_path / "base.toml").exists()
    assert err == ""


def test_a_broken_file_among_them_is_named_and_the_rest_answered(capsys: Output, tmp_path: Path) -> None:
    write(tmp_path, {"a": bound("h1"), "b": bound("h2", oas=48)})
    (tmp_path / "c.json").write_text("{}")
    status, out, err = said(capsys, "baseline", str(tmp_path), "--no-index")
    assert status == 0
    assert "2 hosts" in out
    assert "c.json was left out" in err


def test_match_writes_profiles(capsys: Output, tmp_path: Path, request_file: str) -> None:
    out_directory = tmp_path / "ready"
    status, out, err = said(capsys, "match", request_file, CANWBS, REFUSED, "--no-index", "-o", str(out_directory))
    assert status == 0, err
    assert "1 of 2 hosts can" in out
    assert sorted(path.name for path in out_directory.iterdir()) == ["net-1.toml", "net-2.toml"]
    assert said(capsys, "check", *map(str, sorted(out_directory.iterdir())), "--replay", CANWBS)[0] == 0


def test_match_that_fails_writes_nothing(capsys: Output, tmp_path: Path) -> None:
    request = tmp_path / "request.toml"
    request.write_text(REQUEST.replace("count = 2", "count = 9"))
    status, out, err = said(capsys, "match", str(request), CANWBS, REFUSED, "--no-index", "-o", str(tmp_path / "ready"), "--json")
    assert status == 1
    view = msgspec.json.decode(out, type=MatchView)
    assert (view.ok, view.asked, view.placed) == (False, 9, 3)
    assert [(host.can, host.miss.code if host.miss else None) for host in view.hosts] == [(3, None), (0, "no-canwbs")]
    assert not (tmp_path / "ready").exists()
    assert "Nothing was written" in err


def test_a_request_with_mistakes_names_all_of_them(capsys: Output, tmp_path: Path) -> None:
    request = tmp_path / "request.toml"
    request.write_text('count = 0\nmode = "fast"\n[[device]]\nids = "x"\n')
    status, out, err = said(capsys, "match", str(request), CANWBS, "--no-index")
    assert (status, out) == (1, "")
    assert all(f"line {line}:" in err for line in (1, 2, 4))


@pytest.mark.parametrize("words", [["--device", "8086"], ["--class", "2"], ["--class", "network"]])
def test_a_kind_that_is_none_is_status_2(capsys: Output, words: list[str]) -> None:
    status, _, err = said(capsys, "baseline", CANWBS, "--no-index", *words)
    assert status == 2
    assert "is no" in err


def test_the_default_index_is_in_the_cache_and_answers_again(capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = said(capsys, "baseline", CANWBS)
    assert (tmp_path / "smmu-wizard" / "fleet.sqlite").exists()
    assert said(capsys, "baseline", CANWBS) == first


def test_an_index_that_can_not_be_is_asked_for_or_done_without(capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands where the directory would have to be."""
    (tmp_path / "smmu-wizard").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    status, out, err = said(capsys, "baseline", CANWBS)
    assert status == 0
    assert "1 host," in out
    assert "Every snapshot is read anew" in err
    assert said(capsys, "baseline", CANWBS, "--index", str(tmp_path / "smmu-wizard" / "index"))[0] == 5


def test_many_snapshots_from_a_real_process(tmp_path: Path) -> None:
    """Workers are processes of the program itself: started from a script, not from pytest."""
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    write(hosts, {f"host-{n:02}": bound(f"h{n}", oas=48 if n else 44) for n in range(40)})
    words = [sys.executable, "-m", "wizard", "baseline", str(hosts), "--class", "0108", "--index", str(tmp_path / "index"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == 0, done.stderr
    view = msgspec.json.decode(done.stdout, type=BaselineView)
    held = next(one for one in view.properties if one.property == "oas")
    assert (view.hosts, held.value, held.held_down_by.count, held.without_them) == (40, "44", 1, "48")


# --- the same guest platform elsewhere ------------------------------------------------------------------------------


def elsewhere(capsys: Output, tmp_path: Path, here: Any, there: Any, text: str) -> tuple[int, dict[str, Any]]:
    """Plan on one host with match, check on another."""
    a, b = write(tmp_path, {"here": here, "there": there})
    request = tmp_path / "request.toml"
    request.write_text(text)
    assert said(capsys, "match", str(request), a, "--no-index", "-o", str(tmp_path / "out"))[0] == 0
    status, out, _ = said(capsys, "check", str(tmp_path / "out" / "vm.toml"), "--replay", b, "--json")
    return status, json.loads(out)


NVME = '[[device]]\nids = "1b36:0010"\n'


def test_a_profile_holds_on_a_host_that_supplies_at_least_as_much(capsys: Output, tmp_path: Path) -> None:
    status, view = elsewhere(capsys, tmp_path, bound("h1", ssidsize=8), bound("h2", ats=True, ssidsize=20, oas=48), NVME)
    assert status == 0
    assert view["ok"]
    vsmmu = view["plan"]["vms"][0]["vsmmus"][0]
    assert {name: vsmmu[name]["written"] for name in ("ats", "ril", "ssidsize", "oas", "cmdqv")} == {
        "ats": "off", "ril": "on", "ssidsize": "8", "oas": "44", "cmdqv": "off",
    }  # fmt: skip  # the platform that was planned, not a richer one
    codes = {finding["code"] for finding in view["findings"]}
    assert "made-for-another-host" in codes
    assert "migration-blocked" in codes


def test_each_property_that_fails_elsewhere_is_named(capsys: Output, tmp_path: Path) -> None:
    here, there = bound("h1", ats=True, ssidsize=20, oas=48), bound("h2", ats=False, ril=False, ssidsize=4, oas=44)
    status, view = elsewhere(capsys, tmp_path, here, there, NVME)
    assert status == 1
    failed = [finding["what"] for finding in view["findings"] if finding["code"] == "property-exceeds-host"]
    assert len(failed) == 4
    for words in ("ats=on", "ril=on", "ssidsize=20", "oas=48"):
        assert any(words in what for what in failed), words


def test_another_host_that_refuses(capsys: Output, tmp_path: Path) -> None:
    status, view = elsewhere(capsys, tmp_path, bound("h1"), facts("vfio-arm64-virt"), NVME)
    assert status == 1
    assert "accel-refused" in {finding["code"] for finding in view["findings"]}


def test_another_host_without_the_device(capsys: Output, tmp_path: Path) -> None:
    status, view = elsewhere(capsys, tmp_path, bound("h1"), facts("grace-1s"), NVME)
    assert status == 1
    assert "unknown-function" in {finding["code"] for finding in view["findings"]}


def test_auto_is_shown_with_what_it_comes_to_there(capsys: Output, tmp_path: Path) -> None:
    status, view = elsewhere(capsys, tmp_path, bound("h1"), bound("h2", ats=True), '[properties]\nats = "auto"\n' + NVME)
    assert status == 0
    ats = view["plan"]["vms"][0]["vsmmus"][0]["ats"]
    assert (ats["written"], ats["resolved"]) == ("auto", 1)
    assert "auto-depends-on-host" in {finding["code"] for finding in view["findings"]}


# --- engine ---------------------------------------------------------------------------------------------------------


def engine(capsys: Output, *words: str, replay: str = CANWBS) -> tuple[int, str, str]:
    arguments = parse(["engine", *words, "--replay", replay])
    capsys.readouterr()
    status = fleet.run_engine(arguments)
    done = capsys.readouterr()
    return int(status), done.out, done.err


def test_an_engines_file_of_a_host(capsys: Output, tmp_path: Path) -> None:
    status, out, err = engine(capsys, "nfd")
    assert (status, err) == (0, "")
    assert "smmu.feature.node.kubernetes.io/accel=yes\n" in out
    status, out, err = engine(capsys, "kubevirt-permitted", "-o", str(tmp_path / "permitted.json"))
    assert (status, out) == (0, "")
    assert "merge patch replaces" in err
    assert json.loads((tmp_path / "permitted.json").read_text())["spec"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("kubevirt-permitted", "--partial"), "kubevirt-permitted has no use for --partial"),
        (("nfd", "--resource", "10de:2941=nvidia.com/x"), "nfd has no use for --resource"),
        (("kubevirt-permitted", "--resource", "2941=nvidia.com/x"), "is no vendor and device with the name of a resource"),
        (("kubevirt-permitted", "--resource", "10de:2941=GB200"), "is no vendor and device with the name of a resource"),
        (("kubevirt-permitted", "--resource", f"10de:2941=nvidia.com/{'g' * 64}"), "is no vendor and device with the name of a resource"),
    ],
)
def test_options_of_an_engine_that_it_has_no_use_for(capsys: Output, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        engine(capsys, *words)


def test_an_engines_file_of_a_vm(capsys: Output, tmp_path: Path, request_file: str) -> None:
    assert said(capsys, "match", request_file, CANWBS, "--no-index", "-o", str(tmp_path / "out"))[0] == 0
    profile = str(tmp_path / "out" / "net-1.toml")
    with pytest.raises(UsageError, match="makes no accelerated vSMMU"):
        engine(capsys, "kubevirt-vmi", profile)
    status, out, err = engine(capsys, "kubevirt-vmi", profile, "--partial", "--resource", "8086:10C9=intel.example/igb")
    assert status == 0
    value = json.loads(out)
    assert value["metadata"]["name"] == "net-1"
    assert value["spec"]["domain"]["devices"]["hostDevices"][0]["deviceName"] == "intel.example/igb"
    assert value["metadata"]["annotations"]["smmu-wizard/left-out"] in err
    status, out, err = engine(capsys, "opennebula-template", profile, replay=REFUSED)
    assert (status, out) == (1, "")
    assert "accel-refused" in err
