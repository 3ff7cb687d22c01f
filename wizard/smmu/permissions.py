"""What a leaf descriptor allows: DDI 0487 D8.4 (direct permissions), IHI 0070 13.4.

A set of permissions is an int of six bits. Stage 1 and stage 2 use the same bits, so that both together are one AND.
"""

from __future__ import annotations

from functools import lru_cache

from wizard.arch.bits import Field
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor

PR, PW, PX, UR, UW, UX = (1 << bit for bit in range(6))
READ, WRITE, EXECUTE = PR | UR, PW | UW, PX | UX
ALL = READ | WRITE | EXECUTE
UNPRIVILEGED = 3
"""How far the unprivileged bits are above the privileged ones."""


def bits(*fields: Field) -> int:
    """The bits of several fields."""
    return sum(f.mask << f.lo for f in fields)


STAGE1_BITS = bits(Stage1Leaf.AP, Stage1Leaf.PXN, Stage1Leaf.UXN, Stage1Leaf.DBM)
STAGE2_BITS = bits(Stage2Leaf.S2AP, Stage2Leaf.XN, Stage2Leaf.DBM)
HIERARCHICAL_BITS = bits(TableDescriptor.APTable, TableDescriptor.PXNTable, TableDescriptor.UXNTable)
"""The descriptor bits that decide permissions; with the others masked off, few distinct values are left to remember."""


def needed(privileged: bool, write: bool, instruction: bool) -> int:
    """The one permission an access asks for; writes are data whatever the client says (IHI 0070 13.1.2)."""
    if write:
        return PW if privileged else UW
    if instruction:
        return PX if privileged else UX
    return PR if privileged else UR


NEEDED = {
    (privileged, write, instruction): needed(privileged, write, instruction)
    for privileged in (False, True)
    for write in (False, True)
    for instruction in (False, True)
}


@lru_cache(maxsize=4096)
def stage1(leaf: int, tables: int, el2: bool, wxn: bool, pan: bool, epan: bool, dirty: bool) -> tuple[int, bool]:
    """Permissions of a stage 1 leaf under its tables' hierarchical bits, and whether its write permission depends on a dirty state update.

    ``el2`` is a regime without unprivileged accesses: AP[1] counts as 1, UXN is XN, PXN and APTable[0] mean nothing (IHI 0070 13.4.1).
    ``dirty`` says that hardware updates the dirty state (CD.HD): DBM then stands for a write permission not yet taken.
    """
    access, limit = Stage1Leaf.AP.get(leaf), TableDescriptor.APTable.get(tables)
    read_only = bool(access & 2)
    clean = dirty and read_only and bool(Stage1Leaf.DBM.get(leaf)) and not limit & 2
    writable = (not read_only or clean) and not limit & 2
    never_execute = Stage1Leaf.UXN.get(leaf) or TableDescriptor.UXNTable.get(tables)
    if el2:
        allowed = PR | (PW if writable else 0) | (0 if never_execute or (wxn and writable) else PX)
        return allowed | allowed << 3, clean
    user = bool(access & 1) and not limit & 1
    allowed = PR | (PW if writable else 0)
    if user:
        allowed |= UR | (UW if writable else 0)
    if not never_execute and not (wxn and allowed & UW):
        allowed |= UX
    if not (Stage1Leaf.PXN.get(leaf) or TableDescriptor.PXNTable.get(tables) or allowed & UW or (wxn and allowed & PW)):
        allowed |= PX
    if pan and (user or (epan and allowed & UX)):
        allowed &= ~(PR | PW)
    return allowed, clean


@lru_cache(maxsize=1024)
def stage2(leaf: int, xnx: bool, dirty: bool) -> tuple[int, bool]:
    """Permissions of a stage 2 leaf, and whether its write permission depends on a dirty state update (STE.S2HD)."""
    access = Stage2Leaf.S2AP.get(leaf)
    clean = dirty and not access & 2 and bool(Stage2Leaf.DBM.get(leaf))
    allowed = (READ if access & 1 else 0) | (WRITE if access & 2 or clean else 0)
    never = Stage2Leaf.XN.get(leaf)
    if not xnx:
        return allowed | (0 if never & 2 else EXECUTE), clean
    return allowed | {0: EXECUTE, 1: UX, 2: 0, 3: PX}[never], clean


def describe(allowed: int) -> str:
    """``p:rwx u:r-x``."""
    letters = "".join(letter if allowed & 1 << bit else "-" for bit, letter in enumerate("rwxrwx"))
    return f"p:{letters[:3]} u:{letters[3:]}"
