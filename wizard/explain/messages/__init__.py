"""Every message that is known, by who says it: most are found by their wordings, the kernel's own by the table of its lines."""

from __future__ import annotations

from wizard.explain.messages import drivers, kernel, libvirt, platforms, qemu_machine, qemu_running, qemu_smmu, qemu_vfio
from wizard.explain.model import Message

_ROOMS = (qemu_vfio, qemu_smmu, qemu_machine, qemu_running, libvirt, platforms, drivers, kernel)


def by_words() -> tuple[Message, ...]:
    """Those that a wording describes, in the order of their modules."""
    return tuple(message for room in _ROOMS for message in room.MESSAGES)


def every() -> tuple[Message, ...]:
    """All of them: also the kernel's lines that lead to findings by themselves, and the events of an SMMU."""
    from wizard.explain.events import EVENT_MESSAGES
    from wizard.explain.messages.kernel_lines import LINE_MESSAGES

    return (*by_words(), *dict.fromkeys(LINE_MESSAGES.values()), *EVENT_MESSAGES)
