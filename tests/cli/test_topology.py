"""The command that draws."""

from __future__ import annotations

from pathlib import Path

from lxml import etree

from tests.cli.conftest import CANWBS, failed, refused, run
from tests.tools.hosts import E1000E, NVME, VF0


def test_the_host_alone_and_with_vms(tmp_path: Path) -> None:
    alone = run("--replay", CANWBS, "topology")
    assert failed(alone, 0) == []
    assert "smmu3.0x000000000c020000" in alone.stdout
    made = run("--replay", CANWBS, "plan", "--vm", f"web={NVME},{E1000E}", "--vm", f"db={VF0}", "--memory", "512M", "-o", str(tmp_path))
    assert made.returncode == 0, made.stderr
    files = [str(tmp_path / "web.toml"), str(tmp_path / "db.toml")]
    text = run("topology", "--replay", CANWBS, *files)
    rows = text.stdout.splitlines()
    assert text.returncode == 0
    assert "1 SMMU shared" in rows[0]
    assert next(row for row in rows if NVME in row).split("─")[-1].startswith("A1 ")
    assert next(row for row in rows if VF0 in row).split("─")[-1].startswith("B1 ")
    out = tmp_path / "drawn.svg"
    failed(run("--replay", CANWBS, "topology", *files, "--format", "svg", "-o", str(out)), 0)
    assert etree.parse(str(out)).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert "exists already" in refused(run("--replay", CANWBS, "topology", *files, "--format", "svg", "-o", str(out)), 2)
