"""What the kernel answers when it refuses."""

from __future__ import annotations

import errno


class KernelError(Exception):
    """An ioctl that failed: ``errno`` is the name (``EIO``), ``where`` the kernel function that decided, ``why`` a clause.

    ``done`` is how many commands of a batch the kernel counts as done (IOMMU_HWPT_INVALIDATE's ``entry_num``).
    """

    def __init__(self, name: str, where: str, why: str, *, done: int = 0) -> None:
        super().__init__(f"{name} from {where}: {why}")
        self.errno, self.where, self.why, self.done = name, where, why, done

    @property
    def number(self) -> int:
        """The errno's value."""
        value: int = getattr(errno, self.errno)
        return value
