"""The files that root makes for a VM: plain paths, its own, or made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wizard.base.finding import Area, Finding
from wizard.base.text import visible
from wizard.plan.codes import ERROR, WARNING, plan_code
from wizard.plan.model import VmPlan
from wizard.plan.places import RUN, STATE, is_ours, own_socket, own_variables, plain, socket_of, variables_of
from wizard.plan.rules.base import Scene, rule

NOT_OWN = plan_code(
    "path-not-own", ERROR,
    what="VM {subject}: {what_for} {path} is in a directory of smmu-wizard, and is not this VM's own.",
    why="The preparation script gives that file or its directory to the VM's user: it would be another VM's, or root's.",
    fix="Write {own}, a path outside these directories, or leave {key} out of the profile.",
)  # fmt: skip
BY_HAND = plan_code(
    "path-made-by-hand", WARNING, area=Area.HOST,
    what="VM {subject}: {what_for} {path} is outside {directory}, and has to be made by hand.",
    why="The preparation script runs as root, and makes nothing outside the program's own directories: it stops where {needed} is not there.",
    fix="Make {needed} for user {user} before the script runs, or leave {key} out of the profile.",
)  # fmt: skip


@rule
def own(scene: Scene) -> Iterator[Finding]:
    """The QMP socket and the variables."""
    vm = scene.vm
    for path, what, key, mine, made, needed in made_for(vm):
        if not plain(path) or mine(vm.name, path):  # of the others a rule of its own speaks
            continue
        shown = visible(path)
        if is_ours(path):
            yield NOT_OWN.at(scene.name, what_for=what, path=shown, key=key, own=visible(made(vm.name)))
        else:
            directory = RUN if key == "qmp" else STATE
            yield BY_HAND.at(scene.name, what_for=what, path=shown, key=key, directory=directory, needed=needed, user=visible(vm.user))


Mine = Callable[[str, str], bool]
Made = Callable[[str], str]


def made_for(vm: VmPlan) -> Iterator[tuple[str, str, str, Mine, Made, str]]:
    """Each file that the script makes: path, what it is, its key in the profile, whether it is the VM's own, where that is, what has to be there."""
    if vm.qmp:
        yield vm.qmp, "the QMP socket", "qmp", own_socket, socket_of, "its directory"
    if vm.firmware and vm.firmware.vars:
        yield vm.firmware.vars, "the file of variables", "vars", own_variables, variables_of, "it"
