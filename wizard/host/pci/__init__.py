"""PCI configuration space as facts: header, capabilities, BARs, and what the topology does to DMA.

space = decode_config(data, length)
space.presence(ExtCap.ATS)      PRESENT, ABSENT or UNKNOWN (an ordinary user reads 64 bytes)
extcaps.ats(space)              the capability, or None
"""

from __future__ import annotations

from wizard.host.pci.config import Capability, ConfigSpace, Note, Presence, decode_config

__all__ = ["Capability", "ConfigSpace", "Note", "Presence", "decode_config"]
