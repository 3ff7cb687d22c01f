"""One key, one finding: what its fix does to the request, and that it is done only where it helps."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module

import pytest

import wizard
from tests.tools.hosts import host
from wizard.base.action import Act, on_screen
from wizard.base.finding import REGISTRY, Item, grouped
from wizard.mend.acting import NoFix, act, offered
from wizard.plan.planner import make_plan
from wizard.plan.properties import NAMES, Properties
from wizard.plan.request import FunctionRequest, MachineRequest, Mode, Request, VmRequest

NVME, VF = "0000:14:00.0", "0000:11:10.0"
GROUP = ("0000:81:00.0", "0000:81:00.1")  # group 11 of the recorded host


def vm(name: str, *functions: str, **more: object) -> VmRequest:
    return VmRequest(name=name, functions=tuple(FunctionRequest(host=one) for one in functions), **more)  # type: ignore[arg-type]


def cause(plan: object, code: str) -> Item:
    return next(item for item in grouped(plan.findings) if item.finding.code == code)  # type: ignore[attr-defined]


def fixed(code: str, *vms: VmRequest, snapshot: str = "arm64-virt-canwbs") -> tuple[tuple[VmRequest, ...], str]:
    """The VMs after the fix of one finding, and what was done."""
    request, seen = Request(vms=vms), host(snapshot)
    plan = make_plan(seen, request)
    done = act(seen, request, plan, cause(plan, code))
    assert code not in {one.code for one in done.plan.errors}
    assert done.plan == make_plan(seen, done.request)
    return done.request.vms, done.does


def modes(one: VmRequest) -> dict[str, Mode | None]:
    return {function.host: function.mode for function in one.functions}


def test_a_group_that_is_not_isolated_goes_without_a_viommu_all_of_it_at_once() -> None:
    (after,), does = fixed("group-shared-accelerated", vm("a", NVME, *GROUP))
    assert modes(after) == {NVME: None, GROUP[0]: Mode.NONE, GROUP[1]: Mode.NONE}
    assert does == "no vIOMMU for 2 functions"


def test_the_rest_of_the_group_comes_along_when_it_is_nobodys() -> None:
    (after,), does = fixed("group-shared-accelerated", vm("a", NVME, GROUP[0]))
    assert modes(after) == {NVME: None, GROUP[0]: Mode.NONE, GROUP[1]: Mode.NONE}
    assert does.endswith("and the rest of the group along")


def test_a_fix_that_brings_another_error_is_none() -> None:
    """The other half of the group would come to the second VM, and is the first one's: nothing is taken from it."""
    request, seen = Request(vms=(vm("a", *GROUP), vm("b", GROUP[0]))), host()
    plan = make_plan(seen, request)
    with pytest.raises(NoFix, match="another error"):
        act(seen, request, plan, cause(plan, "group-shared-accelerated"))


def test_memory_becomes_what_the_host_has_beside_the_other_vms() -> None:
    (_, large), does = fixed("memory-over-host", vm("small", NVME, memory=1 << 30), vm("large", VF, memory=1 << 40))
    total, free = host().facts.memory_total, host().facts.moment.memory_available
    assert total is not None
    assert free is not None
    assert large.memory + (1 << 30) <= min(total, free)
    assert "memory of large" in does


def test_an_unknown_verdict_is_accepted_and_the_error_is_a_warning_then() -> None:
    (after,), _ = fixed("accel-not-known", vm("a", "0006:01:00.0"), snapshot="grace-1s")
    assert after.assume_accel


def test_every_vm_with_the_same_cause_is_fixed() -> None:
    vms = (vm("a", NVME, machine=MachineRequest(iommu="smmuv3")), vm("b", VF, machine=MachineRequest(iommu="smmuv3")))
    after, _ = fixed("machine-wide-viommu", *vms)
    assert [one.machine.iommu for one in after] == [None, None]


def test_what_a_rule_mends_is_mended_by_the_same_rule() -> None:
    (after,), does = fixed("property-exceeds-host", vm("a", NVME, properties=Properties(oas=48)))
    assert after.properties.oas == 44
    assert does == "takes the richest value that the host has"


def test_a_function_that_this_host_does_not_have_leaves() -> None:
    (after,), does = fixed("unknown-function", vm("a", NVME, "0000:99:00.0"))
    assert [one.host for one in after.functions] == [NVME]
    assert does == "leave 0000:99:00.0 out"


def test_what_is_somebodys_to_decide_has_no_fix() -> None:
    plan = make_plan(host(), Request(vms=(vm("a", NVME), vm("b", NVME))))
    assert offered(cause(plan, "function-in-two-vms")) is None


def test_every_declared_action_is_one_that_can_be_done_and_no_option_is_on_the_screen() -> None:
    for module in pkgutil.walk_packages(wizard.__path__, "wizard."):
        if not module.name.startswith(("wizard.tui", "wizard.cli", "wizard.__main__")):
            import_module(module.name)
    fields = {Act.SET: set(VmRequest.__struct_fields__)}
    for code, one in REGISTRY.items():
        for text in (one.what, one.why, one.fix, one.on_tree.why or "", one.on_tree.fix or ""):
            assert not re.search(r"(?<![\w-])--[a-z]", re.sub(r"`[^`]*`", "", on_screen(text))), code
        if one.action is None or one.action.kind is not Act.SET:
            continue
        inside, _, name = one.action.field.rpartition(".")
        known = {"": fields[Act.SET], "function": set(FunctionRequest.__struct_fields__), "properties": {*NAMES, "{name}"}}
        assert name in {**known, "machine": set(MachineRequest.__struct_fields__)}[inside], code


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Give less with --memory.", "Give less with memory."),
        ("Or take the risk with --assume-accel.", "Or take the risk with “assume accel”."),
        ("Ask again: `sudo smmu-wizard record --probe`.", "Ask again: `sudo smmu-wizard record --probe`."),
        ("Write for instance --target qemu=11.1, or leave it out.", "Write for instance target qemu=11.1, or leave it out."),
    ],
)
def test_sentences_on_the_screen(said: str, shown: str) -> None:
    assert on_screen(said) == shown
