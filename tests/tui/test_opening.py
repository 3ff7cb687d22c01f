"""Another host in the wizard that runs: whatever `--replay` and `--root` read, judged under the policy of the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.hosts import FIXTURES
from tests.tui.conftest import NVME, shows, until
from wizard.facts.snapshot import load
from wizard.facts.source import Source, SourceKind
from wizard.facts.umockdev import to_umockdev
from wizard.host.model import Accel
from wizard.host.opening import open_host
from wizard.tui.app import WizardApp
from wizard.tui.config import Config


@pytest.mark.parametrize("kind", ["snapshot", "umockdev"])
async def test_a_recording_that_is_opened_is_judged_under_the_policy_of_the_start(tmp_path: Path, kind: str) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[[rule]]\nsubject = "{NVME}"\naccel = "off"\nreason = "ticket 4711"\n')
    path = FIXTURES / "arm64-virt-canwbs.json"
    if kind == "umockdev":
        text = to_umockdev(load(str(path)))
        path = tmp_path / "host.umockdev"
        path.write_text(text)
    wizard = WizardApp(
        open_host(Source(SourceKind.DEMO), str(policy)), source=Source(SourceKind.DEMO), policy=str(policy), config=Config(ascii=False)
    )
    async with wizard.run_test(size=(120, 40)) as pilot:
        await shows(pilot, NVME)
        wizard.open_recording(str(path))
        await until(pilot, lambda: wizard.source.path == str(path))
        assert wizard.host.verdicts[NVME].accel is Accel.NO
        assert wizard.host.verdicts[NVME].reasons[0].code == "accel-off-by-policy"
        assert wizard.command_words("list") == f"smmu-wizard --replay {path} --policy {policy} list"
        wizard.exit(0)
