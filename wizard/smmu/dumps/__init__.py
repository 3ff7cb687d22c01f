"""An SMMU that stopped: images of physical memory and a listing of its registers, looked at as the hardware would.

images.py       files of memory, mapped and not read: raw, ELF vmcores, listings
registers.py    listings of registers: names, offsets, what devmem and QEMU's xp print
state.py        both put together: an ``Smmu`` that walks the images with its caches off
mappings.py     every mapping of a stream, and who reaches an address
audit.py        what is illegal, unreachable or inconsistent
changes.py      what two of them differ in
"""
