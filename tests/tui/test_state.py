"""The session as a value: no terminal, no Textual."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.tools.hosts import host
from tests.tools.processes import LIMIT
from tests.tui.conftest import NVME, VF
from wizard.base.glyphs import ASCII, UNICODE, glyphs_for
from wizard.host.filter import matches, parse_filter
from wizard.plan.planner import make_plan
from wizard.plan.request import Request
from wizard.tui import state
from wizard.tui.fields import field_of, fields_of
from wizard.tui.rows import Index, comes_along, table_rows, tree_rows
from wizard.tui.state import History, Session


def with_two_vms() -> Session:
    """NVMe for one, a VF for the other."""
    return state.assign(state.add_vm(state.assign(state.add_vm(Session(), "a"), "a", [NVME]), "b"), "b", [VF])


def test_a_function_is_in_one_vm_only() -> None:
    session = state.assign(with_two_vms(), "b", [NVME])
    assert session.owner(NVME) == "b"
    assert [f.host for vm in session.vms for f in vm.functions] == [VF, NVME]


def test_undo_and_redo_are_exact_and_a_new_step_forgets_the_future() -> None:
    history = History()
    first = state.done(history, "a", state.add_vm(history.now, "a"))
    second = state.done(first, "b", state.add_vm(first.now, "b"))
    back, label = state.undo(second)
    assert (back.now, label) == (first.now, "b")
    assert state.redo(back)[0] == second
    other = state.done(back, "c", state.add_vm(back.now, "c"))
    assert state.redo(other) == (other, None)
    assert state.undo(history) == (history, None)


def test_what_changes_nothing_is_no_step() -> None:
    history = state.started(with_two_vms())
    assert state.done(history, "nothing", history.now) is history


def test_a_clone_has_the_settings_and_no_function() -> None:
    session = state.clone_vm(with_two_vms(), "a", "c")
    clone = session.get("c")
    assert clone is not None
    assert clone.functions == ()
    assert session.owner(NVME) == "a"


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a\nb", "x" * 65, " a", "a "])
def test_names_that_no_vm_can_have(name: str) -> None:
    assert state.name_problem(Session(), name)


@pytest.mark.parametrize("name", ["web 1", "наш-сервер", "数据库", "a.b_c-d"])
def test_names_of_any_script(name: str) -> None:
    assert state.name_problem(Session(), name) is None


def test_removing_the_vm_in_hand_takes_its_neighbour() -> None:
    session = state.remove_vm(with_two_vms(), "b")
    assert session.current == "a"
    assert state.remove_vm(session, "a").current is None


def test_the_group_comes_along() -> None:
    """0000:81:00.0 and .1 are one IOMMU group on the recorded host (/sys/kernel/iommu_groups/11)."""
    assert comes_along(host(), "0000:81:00.0") == ["0000:81:00.1"]
    assert comes_along(host(), NVME) == []


def test_the_tree_holds_every_function_once_and_vfs_on_their_bus() -> None:
    index = Index(host())
    rows = tree_rows(index, UNICODE)
    keys = [row.key for row in rows]
    assert sorted(key for key in keys if key in host().functions) == sorted(host().functions)
    assert len(keys) == len(set(keys))
    parents = {row.key: row.parent for row in rows}
    assert parents[VF] == "0000:10:00.0"  # as lspci -t draws it


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nvm express", {NVME}),
        ("driver:igbvf", {VF, "0000:11:10.2"}),
        ("group:11", {"0000:81:00.0", "0000:81:00.1"}),
        ("id:1b36:0010", {NVME}),
        ("cap:sriov vm:none", {"0000:11:00.0"}),
        ("no-such-thing", set()),
    ],
)
def test_filters(text: str, found: set[str]) -> None:
    """Against what lspci -nnk said of the recorded host."""
    index = Index(host())
    assert {row.key for row in table_rows(index) if matches(index, row.key, parse_filter(text), None)} == found


def test_accel_filter_is_the_verdict() -> None:
    index = Index(host())
    found = {address for address in index.order if matches(index, address, parse_filter("accel:yes"), None)}
    assert found == {a for a, f in host().functions.items() if not f.is_bridge and host().verdict(a).accel.value == "yes"}
    assert NVME in found


def test_every_field_that_can_be_changed_takes_its_own_value() -> None:
    """Writing back what a field shows changes nothing that is written out."""
    session = with_two_vms()
    plan = make_plan(host(), session.request())
    vm = session.vms[0]
    opened = frozenset({f"function/{NVME}", "vsmmu/smmuv3.1"})
    fields = [field for field in fields_of(host(), vm, plan, opened) if field.change and not field.key.endswith("/new")]
    assert len(fields) > 30
    for field in fields:
        assert field.change is not None
        for value in field.choices or (field.text,):
            changed = field.change(vm, value)
            again = make_plan(host(), Request(vms=(changed,)))
            shown = {one.key: one for one in fields_of(host(), changed, again, opened)}
            if field.key in shown and field.choices:
                assert shown[field.key].value in (value, "") or value in ("default", "as the VM")


def test_every_plan_finding_leads_to_a_field() -> None:
    """Each code of kind plan that speaks of one VM is tied to a field that is there."""
    session = with_two_vms()
    plan = make_plan(host(), session.request())
    keys = [field.key for field in fields_of(host(), session.vms[0], plan)]
    from wizard.base.finding import REGISTRY, Kind

    lost = [
        code
        for code, one in REGISTRY.items()
        if one.kind is Kind.PLAN and field_of(code, "a", one.what, keys) not in keys and not code.startswith("property")
    ]
    assert lost == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "C"}, ASCII),
        ({"LANG": "de_DE.ISO-8859-1"}, ASCII),
        ({"LANG": "en_US.UTF-8", "TERM": "xterm"}, UNICODE),
        ({"TERM": "linux", "LANG": "C.UTF-8"}, ASCII),
        ({}, UNICODE),
    ],
)
def test_ascii_where_the_terminal_knows_no_more(environment: dict[str, str], expected: object) -> None:
    assert glyphs_for(environment) is expected


def test_the_lists_of_the_core_never_import_textual() -> None:
    code = (
        "import sys; from wizard.cli.main import main; main(['--demo', 'list']);"
        "assert not [m for m in sys.modules if m.startswith(('textual', 'rich', 'wizard.tui'))]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
