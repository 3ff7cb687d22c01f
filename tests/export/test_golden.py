"""Every export of a few plans as golden files (tests/tools/golden.py): what a change of a line means is read as a difference.

That these texts are right is asked of QEMU, libvirt, bash and the emulated host in the tests beside this one, over the same plans.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools import golden
from tests.tools.hosts import NVME, PAIR, PF, VF0, changed, host, plan, vm
from tests.tools.requests import SETS
from wizard.base.errors import UsageError
from wizard.export import libvirt_xml, prepare_script, qemu_json, qemu_script, qmp_hotplug
from wizard.host.model import Host
from wizard.plan.model import Plan
from wizard.plan.request import DiskRequest, FirmwareRequest, HotplugRequest, Mode, NodeRequest, VmRequest

GOLDEN = Path(__file__).parent / "golden"
NUMA = (NodeRequest(memory=1 << 29, cpus="0", host_node=0), NodeRequest(memory=1 << 29, cpus="1"))
FIRMWARE = FirmwareRequest(code="/c", vars_template="/t", vars="/var/lib/smmu-wizard/db1_VARS.fd")


def named() -> Host:
    """The recorded host with a pseudonym, which the preparation script compares."""
    return changed(lambda f: replace(f, identity=replace(f.identity, host="host-0123456789abcdef")))


# What the preparation script has to do beyond the plans of the other exports.
PLANS: dict[str, tuple[tuple[VmRequest, ...], Callable[[], Host]]] = {
    **{name: ((replace(request, notes="the database's $HOME"),), named) for name, request in SETS.items()},
    "two VMs of one user": (
        (vm(NVME, user="qemu", hugepages=2 << 20, numa=NUMA, firmware=FIRMWARE), vm(*PAIR, name="web", mode=Mode.NONE, user="qemu")), named,
    ),
    "VFs to be made": (
        (vm("0000:11:10.4", user="qemu", hotplug=(HotplugRequest(functions=(VF0,)),)),),
        lambda: changed(lambda f: replace(f, functions=tuple(
            replace(one, driver="igb", vfio_dev=(), sriov_numvfs=0) if one.address == PF else one for one in f.functions
        )), name="vfio-arm64-virt-canwbs"),
    ),
    "disks": (
        (vm(NVME, disks=(
            DiskRequest(path="/a.qcow2", format="qcow2"), DiskRequest(path="/dev/disk/by-id/b", readonly=True), DiskRequest(path="/c, 1"),
        )),), host,
    ),
}  # fmt: skip


def exported(made: Plan, on: Host) -> dict[str, str]:
    """Every format; a refusal in its words."""
    texts = {"prepare": work_of(prepare_script(made, on))}
    for one in made.vms:
        suffix = f" {one.name}" if len(made.vms) > 1 else ""
        formats = {"qemu": qemu_script, "qemu-json": qemu_json, "libvirt": libvirt_xml, "qmp": qmp_hotplug}
        for name, export in formats.items():
            try:
                texts[name + suffix] = export(one)
            except UsageError as refused:
                texts[name + suffix] = f"refused: {refused} {refused.fix}\n"
    return texts


def work_of(script: str) -> str:
    """A preparation script without what is the same in every one: that is a file of the program itself, read and tested as one."""
    head, shell, rest = script.partition("export LC_ALL=C\n")
    _, remove, tail = rest.partition("if [ $action = remove ]; then")
    assert remove
    return f"{head}{shell}…\n{remove}{tail}"


@pytest.mark.parametrize("name", PLANS)
def test_exports(name: str) -> None:
    requests, on = PLANS[name]
    made = plan(*requests, on=on())
    assert made.ok, made.errors
    path = GOLDEN / f"{name.replace(' ', '-')}.txt"
    texts = exported(made, on())
    for form, text in texts.items():
        golden.same_section(path, form, re.sub("sha256:[0-9a-f]{64}", "sha256:…", text))  # the digest is the facts' own matter
    golden.only(path, texts)
