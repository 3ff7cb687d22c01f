"""A second SMMUv3, written from the text of IHI 0070 and DDI 0487 alone, that the simulated one is held against where no peer models what it does.

    words.py        bits of words, memory, and how a transaction ends
    config.py       from StreamID and SubstreamID to the STE and CD, and what makes them ILLEGAL   5.1 to 5.5, 7.3.1 to 7.3.11
    tables.py       one stage's geometry and walk, permissions, hardware update                    DDI 0487 D8, 3.13
    attributes.py   memory types                                                                   13, DDI 0487 D8.6
    walker.py       a transaction from its arrival to its end, ATS, event records                  3.9, 7.3, 13.6, 13.7
    worlds.py       random worlds in the case format
    compare.py      both, side by side: ``python -m tests.smmu.second.compare --worlds 20000 --seed 3``

It has no cache, shares no line with ``wizard.smmu``, and names registers and fields by their bits. Only ``compare`` knows both.
"""
