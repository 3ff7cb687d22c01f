"""The kernel's lines that lead to findings by themselves, as messages: the table of ``wizard.host.log.lines``, with what each follows from.

What that table calls a complaint (any line that speaks of a failure) is no explanation, and is left out.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from wizard.base.finding import OnTree
from wizard.explain import causes as c
from wizard.explain.model import By, Cause, Message, Nature, Proof
from wizard.host.log import codes
from wizard.host.log.lines import COMPLAINTS, LINES, About, LineKind

OF_LINES = "wizard.host.log.lines"
"""Where these messages are from: that table was read in the kernel's source line by line, and its tests hold it against logs."""
_NATURES = {"error": Nature.ERROR, "warning": Nature.WARNING, "info": Nature.STATE}
_HARMLESS = frozenset({codes.ROM_UNREADABLE.code, codes.NO_PRI.code, codes.IORT_WORKED_AROUND.code, codes.WAS_ENABLED.code})
# Names of the error a probe ended with -> what is behind it, where the finding's own sentence names several.
_OF_PROBE = (
    replace(c.NO_GROUP, errors=("EINVAL",)),
    Cause("pf-has-vfs", "It is a PF that has VFs: vfio-pci takes it only without.", "Remove the VFs, or give them instead.", ("EBUSY",), "in-use"),
    Cause("in-use", "Something else holds the function.", "See who has it; unbind it first.", ("EBUSY",)),
    Cause("msi-not-isolated", "VFIO refuses it, since interrupts are not isolated.", c.MSI.fix, ("EPERM",)),
    c.INACCESSIBLE,
)
_DOWN = "function-inaccessible function-reset-failed port-contained link-down"  # what takes a device away
_FOLLOWS = {
    codes.COMMANDS_STUCK.code: f"ats-invalidation-timeout smmu-command-illegal smmu-command-abort smmu-service-failure {_DOWN}",
    codes.GLOBAL_ERROR.code: "smmu-service-failure smmu-command-illegal smmu-command-abort ats-invalidation-timeout",
    codes.ATC_TIMEOUT.code: f"{_DOWN} pcie-error",
    codes.PROBE_FAILED.code: "iommu-group-refused smmu-setup-failed stream-alias pf-sriov denylist function-inaccessible",
    codes.SETUP_FAILED.code: "stream-in-tree",
    codes.NOT_READY.code: "link-down port-contained",
    codes.INACCESSIBLE.code: "link-down port-contained pcie-error function-reset-failed",
    codes.BUS_ERROR.code: "port-contained",
    codes.GROUP_REFUSED.code: "smmu-setup-failed stream-alias",
}
"""Code of a finding -> messages of the kernel that its lines follow from when they come before, without ``kernel-``."""


_EXPLAINS = dict.fromkeys(
    (codes.COMMAND_ILLEGAL.code, codes.COMMAND_ABORT.code, codes.ATC_TIMEOUT.code),
    ("kernel-smmu-commands-stuck", "kernel-smmu-commands-stuck-1", "kernel-smmu-global-error"),
)
"""Code of a finding -> messages that are printed before it when nobody waits for the interrupt: the time-out of a CMD_SYNC, GERROR itself."""
_SAME = {codes.MEMLOCK.code: "memlock", codes.MSI_UNSAFE.code: "msi-not-isolated", codes.MAP_HOLE.code: "no-iommu-map"}
"""Code of a finding of the log -> the finding that says the same without a log."""


def of_line(kind: LineKind) -> Message:
    """A kind of the kernel's lines as a message: its example is the wording, its finding the cause."""
    found = kind.leads_to
    number = [other for other in LINES if other.leads_to is found].index(kind)
    id = f"kernel-{found.code}" + (f"-{number + 1}" if number else "")
    who = "the SMMU" if kind.about is About.SMMU else "FUNCTION"
    why, fix = (text.replace("{subject}", who) for text in (found.why, found.fix))
    on_tree = OnTree(*(text and text.replace("{subject}", who) for text in (found.on_tree.why, found.on_tree.fix)))
    cause = Cause(found.code, why, fix, facts=_SAME.get(found.code, ""), on_tree=on_tree)
    return Message(
        id, By.KERNEL, (kind.example,), _plain(found.what), OF_LINES, _OF_PROBE if found is codes.PROBE_FAILED else (cause,),
        nature=Nature.HARMLESS if found.code in _HARMLESS else _NATURES[found.severity.value],
        follows=tuple(f"kernel-{name}" for name in _FOLLOWS.get(found.code, "").split()), proof=Proof.SOURCE,
        explains=_EXPLAINS.get(found.code, ()),
    )  # fmt: skip


def _plain(what: str) -> str:
    """The finding's first sentence without what only a host fills in."""
    text = re.sub(r": \{said\}|\{times\}|\{because\}|\{bits\}| \{rid\}", "", what).replace("{subject}", "it").replace("{driver}", "the driver")
    return re.sub(r" {2,}", " ", text[0].upper() + text[1:])


LINE_MESSAGES: dict[int, Message] = {place: of_line(kind) for place, kind in enumerate(LINES) if kind.leads_to.code not in COMPLAINTS}
"""By the place in ``wizard.host.log.lines.LINES``: the matcher of that table finds them."""
