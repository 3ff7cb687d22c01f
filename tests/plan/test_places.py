"""Whose file is it: names and paths of profiles against the directories that root works in."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tools.hosts import NVME, changed, codes, planned, qemu_program
from wizard.export import qemu_script
from wizard.plan.places import own_socket, own_variables, socket_of, variables_of
from wizard.plan.request import FirmwareRequest
from wizard.plan.rules.guest import name_fault


@pytest.mark.parametrize("name", ["undo", "Undo", "memlock", "lock", "state", ".", "..", "a/b", ".hidden"])
def test_names_that_lead_elsewhere(name: str) -> None:
    assert name_fault(name)


@pytest.mark.parametrize("name", ["web", "undo1", "lock-1", "a.b", "web_VARS.fd"])
def test_a_vm_owns_what_the_planner_gives_it(name: str) -> None:
    assert not name_fault(name)
    assert own_socket(name, socket_of(name))
    assert own_variables(name, variables_of(name))


@pytest.mark.parametrize(
    "path",
    [
        "/run/smmu-wizard/db2/qmp", "/run/smmu-wizard/qmp", "/run/smmu-wizard/db1/deep/qmp", "/run/smmu-wizard-state/x/qmp",
        "/var/run/smmu-wizard/db2/qmp", "/var/lib/smmu-wizard-state/memlock/qmp",
    ],
)  # fmt: skip
def test_another_vms_socket_and_the_programs_own_state(path: str) -> None:
    assert "path-not-own" in codes(planned(NVME, qmp=path))


@pytest.mark.parametrize(
    "path", ["/run/smmu-wizard/../../etc/x/qmp", "/run/./x/qmp", "/run//x/qmp", "//run/x/qmp", "/run/smmu-wizard/db1/../db2/qmp"]
)
def test_a_path_is_what_it_looks_like(path: str) -> None:
    assert "path-impossible" in codes(planned(NVME, qmp=path))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/var/lib/smmu-wizard/db2_VARS.fd", "path-not-own"), ("/var/lib/smmu-wizard/db1_VARS.fd.new", "path-not-own"),
        ("/var/lib/smmu-wizard/db1/../x", "path-impossible"), ("/srv/db1_VARS.fd", "path-made-by-hand"),
        ("/var/lib/smmu-wizard/db1/a/VARS.fd", None), ("/var/lib/smmu-wizard/db1_VARS.qcow2", None),
    ],
)  # fmt: skip
def test_variables(path: str, code: str | None) -> None:
    found = codes(planned(NVME, firmware=FirmwareRequest(code="/c", vars_template="/t", vars=path)))
    assert found & {"path-not-own", "path-impossible", "path-made-by-hand"} == ({code} if code else set())


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/usr/bin/qemu-system-aarch64", True), ("/usr/libexec/qemu-kvm", True), ("/usr/local/bin/qemu-system-aarch64", True),
        ("/home/x/qemu-system-aarch64", False), ("/usr/bin/rm", False), ("/usr/bin/../../tmp/qemu-system-aarch64", False),
        ("/opt/qemu/bin/qemu-kvm", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", [None, "qemu=11.0"])
def test_a_snapshot_does_not_choose_the_program(path: str, written: bool, target: str | None) -> None:
    on = changed(programs=(replace(qemu_program("11.1.0"), path=path),))
    vm = planned(NVME, on=on, target=target)
    assert vm.emulator == (path if written else "qemu-system-aarch64")
    assert ("emulator-elsewhere" in codes(vm)) == (not written)
    assert (path in qemu_script(vm)) == written
