"""Preparation scripts without a host to prepare: their words, their guard, their arithmetic; test_armhost.py runs them for real."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.export.test_qemu import NASTY, SETS, free, harmless, names
from tests.plan.hosts import E1000E, NVME, PAIR, VF0, VF1, changed, host, plan, vm
from wizard.base.errors import UsageError
from wizard.export import bind_script, prepare_script
from wizard.host.build import host_of
from wizard.plan.request import FirmwareRequest, NodeRequest

LIBRARY = Path(__file__).parents[2] / "wizard/export/prepare.sh"


def words(script: str, tmp_path: Path) -> list[list[str]]:
    """The calls that a script makes at its end, as bash reads them: its own functions only print their words."""
    head, _, tail = script.partition("if [ $action = remove ]; then")
    named = [line.split("(")[0] for line in head.splitlines() if line.endswith("}") or ("() {" in line and not line.startswith((" ", "#")))]
    functions = sorted({name.strip() for name in named if name.strip().replace("_", "").isalpha()})
    fake = "\n".join(f'{name}() {{ printf "%s\\0" {name} "$@"; printf "\\1\\0"; }}' for name in functions)
    path = tmp_path / "calls"
    path.write_text(f"action=do dry=\n{fake}\nif [ $action = remove ]; then{tail}", encoding="utf-8")
    done = subprocess.run(["bash", str(path)], capture_output=True, check=True)
    calls: list[list[str]] = [[]]
    for word in done.stdout.decode().split("\0")[:-1]:
        if word == "\1":
            calls.append([])
        else:
            calls[-1].append(word)
    return calls[:-1]


def test_the_work_is_what_the_plan_says(tmp_path: Path) -> None:
    on = changed(lambda f: replace(f, identity=replace(f.identity, host="host-0123456789abcdef")))
    numa = (NodeRequest(memory=1 << 29, cpus="0", host_node=0), NodeRequest(memory=1 << 29, cpus="1"))
    made = plan(
        vm(NVME, user="qemu", hugepages=2 << 20, numa=numa, firmware=FirmwareRequest(code="/c", vars_template="/t", vars="/v/a b_VARS.fd")),
        vm(*PAIR, name="web", mode="none", user="qemu"),
        on=on,
    )
    calls = words(prepare_script(made, on), tmp_path)
    assert calls[0] == ["check_host", "host-0123456789abcdef"]
    by_name = {name: [call[1:] for call in calls if call[0] == name] for name in {call[0] for call in calls}}
    assert [call[0] for call in by_name["bind"]] == [NVME, *PAIR]
    assert [call[4] for call in by_name["check"]] == [NVME, " ".join(PAIR), " ".join(PAIR)]
    assert by_name["check"][0][:2] == [NVME, "1b36:0010"]
    assert by_name["hugepages"] == [["0", "2048", "256"], ["any", "2048", "256"]]
    assert by_name["vars"][0] == ["/t", "/v/a b_VARS.fd", "qemu"]
    # The limit is the sum over the user's VMs: two of 1 GiB and their BARs.
    assert int(by_name["memlock"][0][1]) > 2 << 20
    assert len(by_name["memlock"]) == 1


def test_vfs_come_first_and_are_compared_before_anything_is_bound(tmp_path: Path) -> None:
    on = host("vfio-arm64-virt-canwbs")
    free_pf = replace(on.facts, functions=tuple(replace(f, driver="igb") if f.address == "0000:11:00.0" else f for f in on.facts.functions))
    made_on = host_of(free_pf)
    made = plan(vm(VF0, VF1), on=made_on)
    assert made.ok
    calls = [call[:2] for call in words(prepare_script(made, made_on), tmp_path)]
    assert calls[:3] == [["make_vfs", "0000:11:00.0"], ["check", VF0], ["check", VF1]]
    assert calls.index(["bind", VF0]) > 2


@settings(max_examples=60, deadline=None)
@given(names, free, free)
def test_no_word_of_a_plan_is_run(name: str, notes: str, path: str) -> None:
    made = plan(replace(SETS["hot-plug"], name=name, notes=notes, firmware=FirmwareRequest(code="/c", vars_template=f"/{path}", vars=f"/v{path}")))
    script = prepare_script(made, host())
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=False).returncode == 0
    with tempfile.TemporaryDirectory() as scratch:
        calls = words(script, Path(scratch))
    assert ["vars", f"/{path}", f"/v{path}", "root"] in calls
    library = LIBRARY.read_text(encoding="utf-8")
    shown = script.replace(library, "")
    assert harmless(line for line in shown.splitlines() if line.startswith("#"))


def test_bind_only_binds(tmp_path: Path) -> None:
    calls = {call[0] for call in words(bind_script(host(), [NVME, E1000E, "81:00.0"]), tmp_path)}
    assert calls == {"check", "check_free", "run", "bind", "say"}
    for address, says in (("0000:ff:00.0", "no function"), ("0000:10:00.0", "is a bridge"), ("0000:00:01.0", "no IOMMU group")):
        with pytest.raises(UsageError, match=says):
            bind_script(host(), [address])


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=16, max_size=16), st.sampled_from(["smmu-wizard host", "00-11-22-33-44-55-66-77", *NASTY]))
def test_the_scripts_pseudonym_is_the_programs(machine_id: bytes, value: str) -> None:
    """HMAC-SHA256 with coreutils alone."""
    function = LIBRARY.read_text().split("pseudonym() {")[1].split("\n}")[0].replace("[ -r /etc/machine-id ] || return 0", "")
    function = function.replace("id=$(cat /etc/machine-id)", f"id={machine_id.hex()}")
    done = subprocess.run(["bash", "-c", f"pseudonym() {{{function}\n}}\npseudonym \"$1\"", "x", value], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hmac.new(machine_id.hex().encode(), value.encode(), hashlib.sha256).hexdigest()


def test_usage_and_root(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(prepare_script(plan(vm(NVME)), host()))
    done = subprocess.run(["bash", str(script), "--what"], capture_output=True, text=True, check=False)
    assert (done.returncode, "usage:" in done.stderr) == (2, True)
