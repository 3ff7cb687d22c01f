"""What leaves allow, for many descriptors at once: ``wizard.smmu.permissions`` as tables that numpy can index."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from wizard.arch.bits import Field
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.smmu import permissions
from wizard.smmu.arrays.snapshot import U8, U64, Bools
from wizard.smmu.attributes import is_device
from wizard.smmu.context import Stage1, Stage2
from wizard.smmu.permissions import STAGE1_BITS, STAGE2_BITS

AF1 = Stage1Leaf.AF.mask << Stage1Leaf.AF.lo
AF2 = Stage2Leaf.AF.mask << Stage2Leaf.AF.lo


@lru_cache(maxsize=64)
def _table1(el2: bool, wxn: bool, pan: bool, epan: bool, dirty: bool) -> U8:
    """Permissions of stage 1 by 9 bits: AP, PXN, UXN, DBM of the leaf, then APTable, PXNTable, UXNTable."""
    found = []
    for code in range(512):
        leaf = Stage1Leaf.build(AP=code & 3, PXN=code >> 2 & 1, UXN=code >> 3 & 1, DBM=code >> 4 & 1).value
        above = TableDescriptor.build(APTable=code >> 5 & 3, PXNTable=code >> 7 & 1, UXNTable=code >> 8 & 1).value
        found.append(permissions.stage1(leaf, above, el2, wxn, pan, epan, dirty)[0])
    return np.array(found, np.uint8)


@lru_cache(maxsize=16)
def _table2(xnx: bool, dirty: bool) -> U8:
    """Permissions of stage 2 by 5 bits: S2AP, XN, DBM."""
    return np.array([permissions.stage2(Stage2Leaf.build(S2AP=c & 3, XN=c >> 2 & 3, DBM=c >> 4).value, xnx, dirty)[0] for c in range(32)], np.uint8)


@lru_cache(maxsize=2)
def _devices(fwb: bool) -> Bools:
    return np.array([is_device(memattr, fwb) for memattr in range(16)])


def _bits(words: U64, field: Field, into: int, neighbour: Field | None = None) -> U64:
    """A field of every word, moved to bit ``into``; with the ``neighbour`` that follows it."""
    mask = field.mask if neighbour is None else field.mask | neighbour.mask << field.width
    return ((words >> np.uint64(field.lo)) & np.uint64(mask)) << np.uint64(into)


def allowed1(stage1: Stage1, words: U64, above: U64 | np.uint64) -> U8:
    """Permissions of stage 1 leaves; one element when they are the same for all."""
    words = _alike(words, STAGE1_BITS)
    code = _bits(words, Stage1Leaf.AP, 0) | _bits(words, Stage1Leaf.PXN, 2, Stage1Leaf.UXN) | _bits(words, Stage1Leaf.DBM, 4)
    outer = np.atleast_1d(np.asarray(above, np.uint64))
    code = code | _bits(outer, TableDescriptor.APTable, 5) | _bits(outer, TableDescriptor.PXNTable, 7, TableDescriptor.UXNTable)
    return _table1(stage1.el2, stage1.wxn, stage1.pan, stage1.epan, stage1.hd).take(code.view(np.int64))


def allowed2(stage2: Stage2, words: U64) -> U8:
    """Permissions of stage 2 leaves; one element when they are the same for all."""
    words = _alike(words, STAGE2_BITS)
    code = _bits(words, Stage2Leaf.S2AP, 0) | _bits(words, Stage2Leaf.XN, 2) | _bits(words, Stage2Leaf.DBM, 4)
    return _table2(stage2.xnx, stage2.hd).take(code.view(np.int64))


def _alike(words: U64, mask: int) -> U64:
    """``words``, or only the first of them when all have the same bits of ``mask``."""
    if words.size > 1 and not (int(np.bitwise_and.reduce(words)) ^ int(np.bitwise_or.reduce(words))) & mask:
        return words[:1]
    return words


def wide_bits(words: U64) -> U64:
    """Address bits 51:48 of 64 KiB descriptors, in their place."""
    return ((words >> np.uint64(TableDescriptor.Wide.lo)) & np.uint64(TableDescriptor.Wide.mask)) << np.uint64(48)


def devices2(stage2: Stage2, words: U64) -> Bools:
    """Which stage 2 leaves are Device memory."""
    return _devices(stage2.fwb).take(_bits(words, Stage2Leaf.MemAttr, 0).view(np.int64))
