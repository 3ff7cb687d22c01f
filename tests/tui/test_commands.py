"""The command that a screen names makes the same plan."""

from __future__ import annotations

import shlex

from msgspec.structs import replace

from tests.tui.conftest import NVME, VF, host
from wizard.cli.parser import parse
from wizard.cli.planoptions import request_of
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import DiskRequest, Layout, NetworkRequest
from wizard.tui import state
from wizard.tui.commands import plan_words
from wizard.tui.state import Session


def test_the_command_of_two_vms_makes_their_plan() -> None:
    session = state.assign(state.add_vm(state.assign(state.add_vm(Session(), "my storage"), "my storage", [NVME]), "web"), "web", [VF])
    shared = {"layout": Layout.PER_FUNCTION, "properties": Properties(ril="off", oas=44), "fall_back": True}
    session = state.change_vm(session, "my storage", lambda vm: replace(vm, memory=2 << 30, disks=(DiskRequest(path="/srv/a b.img"),), **shared))
    session = state.change_vm(session, "web", lambda vm: replace(vm, cpus=1, networks=(NetworkRequest(kind="tap", source="tap0"),), **shared))
    arguments = parse(shlex.split(plan_words(session.vms)))
    assert make_plan(host(), request_of(arguments)) == make_plan(host(), session.request())


def test_without_a_vm_it_says_what_to_write() -> None:
    assert plan_words(()) == "plan --vm NAME=FUNCTION,..."
