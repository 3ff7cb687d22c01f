"""The words that QEMU's classes have, as the real one lists them."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.tools.processes import LIMIT
from tests.tools.qemu import require_qemu
from wizard.plan.rules.buses import EXPANDER_WORDS, PORT_WORDS


@pytest.mark.qemu
def test_they_are_the_properties_of_the_class() -> None:
    commands: list[dict[str, object]] = [{"execute": "qmp_capabilities"}]
    commands += [{"execute": "qom-list-properties", "arguments": {"typename": name}} for name in ("pcie-root-port", "pxb-host")]
    said = subprocess.run(
        [require_qemu(), "-M", "virt", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"],
        input="\n".join(map(json.dumps, [*commands, {"execute": "quit"}])), capture_output=True, text=True, check=True, timeout=LIMIT,
    ).stdout  # fmt: skip
    lists = [answer["return"] for line in said.splitlines() if isinstance((answer := json.loads(line)).get("return"), list)]
    assert [{one["name"] for one in found} for found in lists] == [PORT_WORDS, EXPANDER_WORDS]
