"""What a message is, as data: its words, who says it, what it means, what it rules out, and the causes it may have.

A wording is the message as it is printed, with its variable parts named in braces: ``[iommufd={iommufd}] error attach {function} ({fd})``.
What a part may look like follows from its name, or from what stands behind a colon (``{host:number}``): ``wizard.explain.template``.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from wizard.base.finding import SAME, OnTree


class By(StrEnum):
    """Who says it; the order is that of the documentation."""

    QEMU = "QEMU"
    LIBVIRT = "libvirt"
    KERNEL = "kernel"  # of the host; what a guest's kernel says of its own SMMU is among them
    GUEST = "guest"
    FIRMWARE = "firmware"
    DRIVER = "driver"
    UDEV = "udev"
    SYSTEMD = "systemd"
    AUDIT = "audit"  # AppArmor and SELinux
    KUBEVIRT = "KubeVirt"
    VIRT_INSTALL = "virt-install"


class Nature(StrEnum):
    """What a message is to the one who reads it; the order is that in which one is taken for the first cause."""

    ERROR = "error"  # something failed
    WARNING = "warning"  # something is not as it should be, and went on
    STATE = "state"  # how something is; it may be why something else fails
    HARMLESS = "harmless"  # no fault at all
    CONSEQUENCE = "consequence"  # says only that something else failed


class Proof(StrEnum):
    """How the words are known."""

    PROVOKED = "provoked"  # a test makes the real program say them
    BINARY = "in the program"  # a test finds them in the program that is installed
    SOURCE = "read in the source"
    REPORTED = "seen in a report"


class Cause(msgspec.Struct, frozen=True):
    """One thing that may be behind a message. ``code`` is the finding that says so where a host and a plan are known."""

    code: str
    because: str  # the cause, a sentence
    fix: str  # the next step
    errors: tuple[str, ...] = ()  # names of the errors with which it comes; empty: with any
    facts: str = ""  # further codes that rule it in, joined by spaces: the same fact seen elsewhere
    on_tree: OnTree = SAME  # said instead of a host that is known to have a device tree

    def told(self, *, tree: bool) -> tuple[str, str]:
        """(because, fix), for a host with a device tree if ``tree``."""
        return (self.on_tree.why or self.because, self.on_tree.fix or self.fix) if tree else (self.because, self.fix)


class Message(msgspec.Struct, frozen=True):
    """One message. ``texts`` are its wordings, the newest first; ``old`` those of versions before."""

    id: str
    by: By
    texts: tuple[str, ...]
    means: str
    where: str  # file and function of the source, or what provokes it
    causes: tuple[Cause, ...] = ()
    nature: Nature = Nature.ERROR
    fix: str = ""  # where no cause has one
    rules_out: str = ""
    follows: tuple[str, ...] = ()  # ids of messages, or natures of emitters, that it follows from when they come before
    old: tuple[str, ...] = ()
    proof: Proof = Proof.BINARY
    context: tuple[str, ...] = ()  # words of which a line holds one, unless the message is all that the line says
    alone: bool = True  # False: not even then
    surely: tuple[str, ...] = ()  # names of errors with which it needs no context: nothing else is said with them
    explains: tuple[str, ...] = ()  # ids of messages that follow from it although they come before

    @property
    def wordings(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.texts, *self.old)


QEMU_SAYS = ("qemu", "QEMU", "-device ", "-object ", "-machine ", "-drive ", "-blockdev ", "-numa ", "vfio", "monitor", "libvirt", "GenericError")
LIBVIRT_SAYS = ("libvirt", "Libvirt", "virsh", "virt", "error: ", "error : ", "internal error", "unsupported configuration", "XML error", "ERROR")
"""Contexts: what stands around a message whose words alone might be anybody's."""
