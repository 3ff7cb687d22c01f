"""Many translations at once, and whole tables as coalesced ranges, with numpy.

snapshot.py     memory as one array that can be indexed by address
walk.py         tables walked for many addresses in step
rules.py        what leaves allow
translate.py    the same answers as ``Smmu.translate`` with its caches off, as arrays: by
plain.py            walking each address, or
regions.py          what is above the last level once for each region (region.py), or
pages.py            each page once
window.py       where most of some addresses are
maps.py         every mapping of a table or of both stages: input ranges to output ranges with permissions
"""

from __future__ import annotations

from wizard.smmu.arrays.maps import Map, composed, context_map, stage1_map, stage2_map
from wizard.smmu.arrays.plain import Translations
from wizard.smmu.arrays.snapshot import Snapshot
from wizard.smmu.arrays.translate import translate

__all__ = ["Map", "Snapshot", "Translations", "composed", "context_map", "stage1_map", "stage2_map", "translate"]
