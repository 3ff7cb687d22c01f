"""Every scenario, each a short function beside what it follows. Importing this room registers them."""

from __future__ import annotations

from wizard.dryrun.bench import REGISTRY
from wizard.dryrun.scenarios import buffers, commands, events, host, hotplug, life, msi, notoffered, pasid, reach, tables

_ORDER = (life, tables, buffers, commands, msi, pasid, reach, events, hotplug, host, notoffered)

SCENARIOS = tuple(sorted(REGISTRY.values(), key=lambda scenario: [module.GROUP for module in _ORDER].index(scenario.view.group)))
"""All of them, in the order in which they are shown."""
