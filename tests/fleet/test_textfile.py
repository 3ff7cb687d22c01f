"""The textfile for node_exporter, judged by Prometheus' own parser and promtool; its units by systemd."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from tests.fleet.hosts import SMMUS, bound, fixture_names, renamed
from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.hosts import FIXTURES, host
from tests.tools.hosts import facts as fixture
from tests.tools.processes import LIMIT
from tests.tools.promtool import check_metrics
from wizard.base.errors import InputError
from wizard.cli.main import main
from wizard.facts.model import Facts
from wizard.fleet.consumers import Options, textfile
from wizard.fleet.rows import rows_of
from wizard.host.build import host_of
from wizard.host.model import Host

UNITS = PROJECT / "engines" / "systemd"
Series = dict[str, dict[tuple[str, ...], float]]


def series(host: Host) -> Series:
    """Metric -> values of its labels -> value; nothing twice."""
    found: Series = {}
    for family in text_string_to_metric_families(textfile.textfile(host, Options()).text):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            labels = tuple(sample.labels.values())
            assert labels not in found.setdefault(sample.name, {})
            found[sample.name][labels] = sample.value
    return found


@pytest.mark.parametrize("name", fixture_names())
def test_every_host_gives_series_that_add_up(name: str) -> None:
    found, rows = series(host(name)), [row for row in rows_of(host(name)) if not row.bridge]
    assert sum(found["smmu_accel_functions"].values()) == len(rows)
    for smmu in {row.smmu or "" for row in rows}:
        here = [row for row in rows if (row.smmu or "") == smmu]
        assert [found["smmu_accel_functions"][smmu, accel] for accel in ("yes", "no", "unknown")] == [
            sum(row.accel == accel for row in here) for accel in ("yes", "no", "unknown")
        ]
    assert all(name.startswith("smmu_accel_") for name in found)  # watch's file has smmu_wizard_: no name may stand in two
    assert not any(re.match(r"[0-9a-f]{4}:[0-9a-f]{2}:", label) for values in found.values() for labels in values for label in labels)


@pytest.mark.parametrize("facts", [bound("h1", time="2026-06-01T00:00:00Z"), fixture("gb200"), fixture("x86-intel")], ids=["bound", "gb200", "x86"])
def test_promtool_has_nothing_to_say(facts: Facts) -> None:
    check_metrics(textfile.textfile(host_of(facts), Options()).text)


def test_unknown_is_neither_a_zero_nor_a_one() -> None:
    grace = series(host("grace-1s"))
    assert "smmu_accel_functions_free" not in grace  # all of them may be able
    assert "smmu_accel_smmu_substream_width" not in grace
    assert "smmu_accel_recorded_timestamp_seconds" not in grace
    assert series(host_of(bound("h1", time="2026-06-01T00:00:00Z")))["smmu_accel_recorded_timestamp_seconds"] == {(): 1780272000}
    busy = series(host("host-in-use"))
    assert busy["smmu_accel_functions_held_back"][("in-use",)] >= 1
    unread = replace(bound("h1"), log=(), unread={"dmesg": "needs root"}, moment=replace(bound("h1").moment, log=()))
    output = textfile.textfile(host_of(unread), Options())
    assert "smmu_accel_logged_events" not in output.text
    assert any("log was not read" in remark for remark in output.remarks)
    with pytest.raises(InputError, match="were not read"):
        textfile.textfile(host_of(replace(fixture("gb10"), functions=(), unread={"/sys/bus/pci/devices": "absent"})), Options())


def test_events_of_the_log_are_those_that_it_has() -> None:
    facts = fixture("vfio-arm64-virt-canwbs")
    lines = [line for line in (*facts.log, *facts.moment.log) if re.search(r"event: F_TRANSLATION client", line)]
    assert len(lines) > 1
    found = series(host_of(facts))
    assert found["smmu_accel_logged_events"] == {(): len(lines)}
    assert found["smmu_accel_logged_events_by_type"] == {(SMMUS[2], "F_TRANSLATION"): len(lines)}
    quiet = replace(facts, log=tuple(line for line in facts.log if "event" not in line), moment=replace(facts.moment, log=()))
    assert series(host_of(quiet))["smmu_accel_logged_events"] == {(): 0}


def test_a_stranger_s_names_stay_labels() -> None:
    name = 'smmu3.0x1"\\\n{x="y"} 1'
    facts = renamed(bound("h1"), "h")
    facts = replace(
        facts,
        iommus=tuple(replace(one, name=name) if one.name == SMMUS[0] else one for one in facts.iommus),
        functions=tuple(replace(one, iommu=name) if one.iommu == SMMUS[0] else one for one in facts.functions),
    )
    found = series(host_of(facts))
    assert any('{x="y"} 1' in labels[0] for labels in found["smmu_accel_functions"])


def words(unit: str) -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", (UNITS / unit).read_text(), re.M)
    return shlex.split(line)


def test_the_service_leaves_open_what_verdicts_are_read_from() -> None:
    """systemd.exec(5): each of these hides one of the places that facts come from; ProtectClock= implies a DeviceAllow=, ProtectKernelModules= hides
    /usr/lib/modules."""
    lines = (UNITS / "smmu-wizard-textfile.service").read_text().splitlines()
    set_ = {line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")}
    hiding = """PrivateDevices DeviceAllow DevicePolicy ProtectClock ProtectKernelLogs PrivateNetwork RestrictAddressFamilies ProtectProc ProcSubset
        ProtectKernelModules User DynamicUser CapabilityBoundingSet PrivateUsers SystemCallFilter InaccessiblePaths"""
    assert not set_ & set(hiding.split())
    assert "ProtectSystem" in set_


def test_systemd_takes_the_units_and_their_command_is_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, *rest = words("smmu-wizard-textfile.service")
    assert program == "/usr/bin/smmu-wizard"
    target = Path(rest[-1])
    assert f"ReadWritePaths={target.parent}" in (UNITS / "smmu-wizard-textfile.service").read_text()
    for _ in range(2):  # the second time over the first
        assert main(["--replay", str(FIXTURES / "gb200.json"), *rest[:-1], str(tmp_path / target.name)]) == 0
    capsys.readouterr()
    assert (tmp_path / target.name).stat().st_mode & 0o777 == 0o644  # node_exporter is no root
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    if shutil.which("systemd-analyze") is None:
        skip_loudly("no systemd-analyze", "install systemd: the units were not verified")
    stub = tmp_path / "smmu-wizard"
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    for path in UNITS.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(program, str(stub)))
    asked = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.glob("smmu-wizard-*")))]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert len(asked) == 5
