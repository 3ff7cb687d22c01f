"""Every message that is known, by who says it. ``MESSAGES`` are found by their words, ``LINE_MESSAGES`` by the kernel's own table of lines."""

from __future__ import annotations

from wizard.explain.messages import drivers, libvirt, platforms, qemu_machine, qemu_smmu, qemu_vfio
from wizard.explain.model import Message


def by_words() -> tuple[Message, ...]:
    """Those that a wording describes, the kernel's among them; in the order of their modules."""
    from wizard.explain.messages import kernel

    return (
        *qemu_vfio.MESSAGES,
        *qemu_smmu.MESSAGES,
        *qemu_machine.MESSAGES,
        *libvirt.MESSAGES,
        *platforms.MESSAGES,
        *drivers.MESSAGES,
        *kernel.MESSAGES,
    )


def every() -> tuple[Message, ...]:
    """All of them: also the kernel's lines that lead to findings, and the events of an SMMU."""
    from wizard.explain.events import EVENT_MESSAGES
    from wizard.explain.messages import kernel

    return (*by_words(), *dict.fromkeys(kernel.LINE_MESSAGES.values()), *EVENT_MESSAGES)
