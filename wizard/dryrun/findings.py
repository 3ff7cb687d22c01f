"""What a dry run finds wrong before and after it plays."""

from __future__ import annotations

from wizard.base.finding import Area, Kind, Severity, define

IMPOSSIBLE_MEMORY = define(
    "dry-run-impossible-memory", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="VM {subject} has a memory layout that can't exist: {because}.",
    why="A dry run builds the guest's memory map as QEMU's virt machine does, and the host memory behind it.",
    fix="Change the VM's memory or MMIO window, and check the profile again.",
)  # fmt: skip
FAILED = define(
    "dry-run-failed", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="{subject} fails '{title}': {because}",
    why="Played on the simulated SMMUv3 as {source} decides.",
    fix="Look at its trace with dry-run --json, correct what it names in the profile, and check the profile again.",
)  # fmt: skip
NOT_ISOLATED = define(
    "dry-run-not-isolated", Severity.ERROR, Kind.PLAN, Area.HARDWARE,
    what="VM {subject} is not isolated on {smmu}: {because}",
    why="Every address that a guest may make its functions use ends in a leaf of stage 2; the proof looks at all of them.",
    fix="Do not start the VM: its layout maps memory twice, or memory that is not the VM's.",
)  # fmt: skip
MISSING_FUNCTION = define(
    "dry-run-missing-function", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="The host has no function {subject}, which VM {vm} asks for.",
    why="A dry run needs every function that the profile names.",
    fix="Choose a function that `smmu-wizard list` shows, or replay the snapshot that the profile was made for.",
)  # fmt: skip
