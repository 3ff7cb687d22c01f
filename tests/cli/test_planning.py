"""From a request to files: plan, check, export, prepare."""

from __future__ import annotations

import json
import shlex
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cli.conftest import CANWBS, REFUSED, ROOT, failed, run
from tests.tools.processes import LIMIT

TWO = ("--vm", "web=0000:14:00.0", "--vm", "db=0000:11:10.0")


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    done = run("--replay", CANWBS, "plan", *TWO, "-o", str(tmp_path / "profiles"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return tmp_path / "profiles"


def test_plan_writes_one_profile_for_each_vm(profiles: Path) -> None:
    assert sorted(path.name for path in profiles.iterdir()) == ["db.toml", "web.toml"]
    web = tomllib.loads((profiles / "web.toml").read_text())
    assert web["function"][0]["host"] == "0000:14:00.0"
    assert web["vsmmu"][0] == {
        "id": "smmuv3.1", "smmu": "smmu3.0x000000000c000000", "bus": "pcie.1", "bus_nr": 8, "slot": 1,
        "ats": "off", "ril": "on", "ssidsize": 0, "oas": 44, "cmdqv": "off",
    }  # fmt: skip


def test_profiles_stand_before_the_host_and_each_other(profiles: Path) -> None:
    done = run("--replay", CANWBS, "check", str(profiles / "web.toml"), str(profiles / "db.toml"), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"] is True


def test_the_same_function_in_two_profiles_is_an_error(profiles: Path) -> None:
    twin = profiles / "twin.toml"
    twin.write_text((profiles / "web.toml").read_text().replace('name = "web"', 'name = "twin"'))
    done = run("--replay", CANWBS, "check", str(profiles / "web.toml"), str(twin), "--json")
    assert done.returncode == 1
    assert "function-in-two-vms" in {finding["code"] for finding in json.loads(done.stdout)["findings"]}


def test_a_profile_of_the_accelerated_host_does_not_hold_on_the_refused_one(profiles: Path) -> None:
    lines = failed(run("--replay", REFUSED, "export", str(profiles / "web.toml"), "--format", "qemu"), 1)
    assert any("CANWBS" in line for line in lines)


def test_qemu_script_and_json_say_the_same_words(profiles: Path, tmp_path: Path) -> None:
    script = tmp_path / "web.sh"
    assert run("--replay", CANWBS, "export", str(profiles / "web.toml"), "--format", "qemu", "-o", str(script)).returncode == 0
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)], check=False, timeout=LIMIT).returncode == 0
    words = json.loads(run("--replay", CANWBS, "export", str(profiles / "web.toml"), "--format", "qemu-json").stdout)
    devices = [json.loads(value) for flag, value in pairwise(words) if flag == "-device"]
    assert [device["driver"] for device in devices] == ["pxb-pcie", "arm-smmuv3", "pcie-root-port", "vfio-pci"]
    assert devices[1]["accel"] is True
    # QEMU's JSON syntax is typed: these are strings, bus_nr a number (measured on QEMU 11.1.2).
    assert (devices[1]["oas"], devices[1]["ssidsize"], devices[1]["ats"], devices[0]["bus_nr"]) == ("44", "0", "off", 8)
    text = script.read_text()
    for device in devices:
        assert f"-device {device['driver']}," in text
    assert "host=0000:14:00.0" in text


@pytest.mark.parametrize("form", ["qemu", "qemu-json", "libvirt", "virt-install", "openvmm", "prepare", "qmp"])
def test_every_format_is_the_same_twice(profiles: Path, form: str) -> None:
    first, second = (run("--replay", CANWBS, "export", str(profiles / "web.toml"), "--format", form) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout != ""


def test_nothing_is_written_when_one_vm_has_an_error(tmp_path: Path) -> None:
    done = run("--replay", CANWBS, "plan", "--vm", "good=0000:14:00.0", "--vm", "bad=0000:83:02.0", "-o", str(tmp_path / "profiles"))
    lines = failed(done, 1)
    assert any("0000:83:02.0" in line for line in lines)
    assert not (tmp_path / "profiles").exists()


def test_existing_profiles_are_kept_without_force(profiles: Path) -> None:
    (profiles / "web.toml").write_text("# somebody's edits\n")
    (profiles / "db.toml").unlink()
    failed(run("--replay", CANWBS, "plan", *TWO, "-o", str(profiles)), 2)
    assert (profiles / "web.toml").read_text() == "# somebody's edits\n"
    assert not (profiles / "db.toml").exists()
    assert run("--replay", CANWBS, "plan", *TWO, "-o", str(profiles), "--force").returncode == 0
    assert "0000:14:00.0" in (profiles / "web.toml").read_text()


def test_a_directory_that_cannot_be_made_is_status_5(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failed(run("--replay", CANWBS, "plan", *TWO, "-o", str(tmp_path / "file" / "profiles")), 5)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--vm", "web=0000:99:00.0"], "0000:99:00.0"),
        (["--vm", "web=0000:14:00.0,0000:14:00.0"], "0000:14:00.0"),
        (["--vm", "a=0000:14:00.0", "--vm", "b=0000:14:00.0"], "0000:14:00.0"),
        (["--vm", "web=0000:00:01.0"], "no SMMU"),
        (["--vm", "web=0000:11:00.0"], "live virtual functions"),
        (["--vm", "web=0000:14:00.0", "--memory", "900G"], "900G"),
        (["--vm", "web=0000:14:00.0", "--oas", "48"], "oas=48"),
        (["--vm", "../up=0000:14:00.0"], "../up"),
        (["--vm", "web=0000:10:01.0"], "is a bridge"),
        (["--vm", "web=0000:14:00.0", "--vm", "web=0000:11:10.0"], "Two VMs have the name web"),
        (["--vm", "web=0000:14:00.0", "--memory", "0"], "asks for 0 of memory"),
        (["--vm", "web=0000:14:00.0", "--memory", "99999999999999999P"], "no arm64 CPU"),
        (["--vm", "web=0000:14:00.0", "--cpus", "513"], "513 CPUs"),
        (["--vm", "web=0000:14:00.0", "--hugepages", "3M"], "hugepages of 3M"),
        (["--vm", "web=0000:14:00.0", "--oas", "45"], "oas=45"),
        (["--vm", "web=0000:14:00.0", "--ssidsize", "21"], "ssidsize=21"),
        (["--vm", "web=0000:14:00.0", "--split", "smmu3.0x1"], "smmu3.0x1"),
        (["--vm", "web=0000:14:00.0", "--target", "11"], "names no QEMU"),
        (["--vm", "web=0000:14:00.0", "--mode", "none", "--oas", "44"], "oas=44"),
        (["--vm", "web=0000:14:00.0", "--mode", "virtio-iommu", "--layout", "per-function"], "layout per-function"),
        (["--vm", "web=0000:14:00.0", "--hotplug", "0000:11:00.0"], "live virtual functions"),
        (["--vm", "web=0000:14:00.0", "--disk", "/d", "--disk", "/d"], "/d twice"),
        (["--vm", "a\nb=0000:14:00.0"], "'\\x0a'"),
        (["--vm", f"{'x' * 65}=0000:14:00.0"], "longer than 64 bytes"),
    ],
)
def test_what_would_not_start_is_a_finding(words: list[str], named: str) -> None:
    done = run("--replay", CANWBS, "plan", *words)
    assert named in "\n".join(failed(done, 1))
    assert done.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--vm", "web"],
        ["--vm", "web=nonsense"],
        ["--vm", "=14:00.0"],
        *(
            ["--vm", "web=14:00.0", *words]
            for words in (
                ["--memory", "lots"],
                ["--memory", "1.5G"],
                ["--memory=-1"],
                ["--memory", "9" * 5000],
                ["--memory", "db=4G"],
                ["--memory", "٣G"],
                ["--cpus", "two"],
                ["--cpus", "9" * 5000],
                ["--cpus", "²"],
                ["--oas", "wide"],
                ["--ssidsize", "9" * 5000],
                ["--hugepages=-2M"],
                ["--network", "tap"],
                ["--mode", "fast"],
                ["--hotplug", "db=14:00.0"],
                ["--allow-in-use", "14:00.0"],
                ["--allow-in-use", "11:10.0", "--yes"],
            )
        ),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_words_without_meaning_are_usage(words: list[str]) -> None:
    failed(run("--replay", CANWBS, "plan", *words), 2)


def test_memory_and_cpus_may_be_of_one_vm(tmp_path: Path) -> None:
    done = run("--replay", CANWBS, "plan", *TWO, "--memory", "512M", "--memory", "db=1536M", "--cpus", "1", "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    sizes = {name: tomllib.loads((tmp_path / f"{name}.toml").read_text())["memory"]["size"] for name in ("web", "db")}
    assert sizes == {"web": "512M", "db": "1536M"}


def test_prepare_binds_and_can_undo_itself(tmp_path: Path) -> None:
    script = tmp_path / "bind.sh"
    assert run("--replay", CANWBS, "prepare", "0000:14:00.0", "-o", str(script)).returncode == 0
    assert subprocess.run(["bash", "-n", str(script)], check=False, timeout=LIMIT).returncode == 0
    text = script.read_text()
    assert "0000:14:00.0" in text
    assert "undo" in text
    # This machine is not the recorded host: the script must not touch it.
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=LIMIT)
    assert done.returncode != 0


def test_vm_names_reach_the_script_as_one_word(tmp_path: Path) -> None:
    name = "größe 1"
    assert run("--replay", CANWBS, "plan", "--vm", f"{name}=0000:14:00.0", "-o", str(tmp_path)).returncode == 0
    script = run("--replay", CANWBS, "export", str(tmp_path / f"{name}.toml"), "--format", "qemu").stdout
    line = next(line for line in script.splitlines() if line.strip().startswith("-name"))
    assert shlex.split(line)[1].startswith(f"guest={name}")


def test_the_readme_names_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for word in ("list", "show", "doctor", "prepare", "record", "plan", "dry-run", "export"):
        assert f"smmu-wizard {word}" in text or f"host.json {word}" in text
        assert run(word, "--help").returncode == 0


def test_a_profile_is_mended_and_written_only_when_asked(profiles: Path) -> None:
    web, link = profiles / "web.toml", profiles / "link.toml"
    right = web.read_text()
    wrong = right.replace("oas = 44", "oas = 48 # as on the old host")
    web.write_text(wrong)
    link.symlink_to(web)
    shown = run("--replay", CANWBS, "check", "--fix", str(web))
    assert shown.returncode == 0, shown.stderr
    assert "-oas = 48 # as on the old host\n+oas = 44 # as on the old host" in shown.stdout
    assert "mended [property-exceeds-host]" in shown.stderr
    assert web.read_text() == wrong
    failed(run("--replay", CANWBS, "check", "--fix", "--in-place", str(link)), 5)
    failed(run("--replay", CANWBS, "check", "--in-place", str(web)), 2)
    assert web.read_text() == wrong
    web.chmod(0o600)
    assert run("--replay", CANWBS, "check", "--fix", "--in-place", str(web)).returncode == 0
    assert web.read_text() == right.replace("oas = 44", "oas = 44 # as on the old host")
    assert web.stat().st_mode & 0o777 == 0o600


def test_what_no_rule_mends_is_left_and_told(profiles: Path) -> None:
    twin = profiles / "twin.toml"
    twin.write_text((profiles / "web.toml").read_text().replace('name = "web"', 'name = "twin"'))
    done = run("--replay", CANWBS, "check", "--fix", "--json", str(profiles / "web.toml"), str(twin))
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["ok"], said["texts"]) == (False, {})
    assert {one["finding"]["code"] for one in said["left"]} >= {"function-in-two-vms"}
    assert all(one["because"] for one in said["left"])


def test_one_profile_for_another_vmm(profiles: Path) -> None:
    web = str(profiles / "web.toml")
    done = run("--replay", CANWBS, "export", web, "--format", "openvmm")
    assert done.returncode == 0, done.stderr
    assert "NOT RUN" in done.stdout
    assert "openvmm-goes-without" in run("--replay", CANWBS, "check", web, "--vmm", "openvmm").stdout  # its ril=on, for instance
    assert "planned for OpenVMM" not in run("--replay", CANWBS, "check", web).stdout


def test_a_script_of_somebody_elses_is_mended_in_place_and_imported_mended(tmp_path: Path) -> None:
    script = tmp_path / "buzzard.sh"
    text = (ROOT / "tests/existing/data/qemu/buzzard.sh").read_text()
    script.write_text(text)
    script.chmod(0o755)
    on = str(ROOT / "fixtures" / "vfio-arm64-virt-canwbs.json")
    hint = run("--replay", on, "check", str(script)).stderr
    assert "a rule that mends property-exceeds-host" in hint
    imported = run("--replay", on, "import", "--fix", str(script))
    assert imported.returncode == 0, imported.stderr
    assert "oas = 44" in imported.stdout
    assert "-device arm-smmuv3,primary-bus=pcie.2,accel=on,ril=on,ats=off,oas=44" in imported.stderr
    assert script.read_text() == text
    assert run("--replay", on, "check", "--fix", "--in-place", str(script)).returncode == 0
    assert script.read_text() == text.replace("oas=48", "oas=44")
    assert script.stat().st_mode & 0o777 == 0o755
    assert "looks at no host" in failed(run("--replay", on, "import", str(script)), 2)[0]
    piped = run("--replay", on, "check", "--fix", "-", stdin=text)
    assert piped.returncode == 0
    assert "+    -device arm-smmuv3" in piped.stdout
