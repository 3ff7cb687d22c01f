"""QMP commands for hot-plug, given to a real QEMU with a stand-in for vfio-pci."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import pytest

from tests.tools.hosts import E1000E, NVME, VF0, cmdqv, planned
from wizard.export import qmp_hotplug
from wizard.plan.request import HotplugRequest
from wizard.rehearsal.process import running
from wizard.rehearsal.standin import stand_ins


@pytest.mark.qemu
def test_a_function_can_be_plugged_where_it_says(qemu: Path) -> None:
    made = planned(NVME, hotplug=(HotplugRequest(functions=(VF0,)), HotplugRequest(functions=(E1000E,))))
    told = json.loads(qmp_hotplug(made))
    assert [item["function"] for item in told["plug"]] == [VF0, E1000E]
    assert {item["id"] for item in told["unplug"]} == {"dev0", *(item["id"] for item in told["plug"])}

    async def plug() -> dict[str, str]:
        with tempfile.TemporaryDirectory() as scratch:
            async with running(str(qemu), stand_ins(made).words, scratch) as client:
                for item in told["plug"]:
                    for command in item["commands"]:
                        arguments = {**command["arguments"], "driver": "virtio-net-pci", "romfile": ""}
                        assert arguments.pop("host") == item["function"]
                        assert arguments.pop("iommufd") == made.iommufd
                        await client.execute(command["execute"], arguments)
                found = {}
                for item in told["plug"]:
                    bus = await client.execute("qom-get", {"path": f"/machine/peripheral/{item['id']}", "property": "parent_bus"})
                    found[item["id"]] = str(bus).rpartition("/")[2]
                for item in told["unplug"]:
                    for command in item["commands"]:
                        await client.execute(command["execute"], command["arguments"])
                return found

    assert asyncio.run(plug()) == {item["id"]: item["port"] for item in told["plug"]}


def test_the_function_that_cmdqv_hangs_on_stays() -> None:
    told = json.loads(qmp_hotplug(planned(NVME, VF0, on=cmdqv())))
    assert [item["function"] for item in told["unplug"]] == [VF0]


def test_a_port_without_candidates_shows_the_form() -> None:
    told = json.loads(qmp_hotplug(planned(NVME, hotplug=(HotplugRequest(vsmmu="smmuv3.1"),))))
    assert told["plug"][0]["commands"][0]["arguments"]["host"] == "DDDD:BB:DD.F"
    assert told["socket"] == "/run/smmu-wizard/db1/qmp"
