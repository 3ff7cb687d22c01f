"""Tables of real machines, built from what is published of them, for the IORT tests.

Where a dump was published whole (Altra, N1SDP) its values are used as they are; values that were not published are left at zero or
at what another part of the same source says, and no test asserts them.
"""

from __future__ import annotations

import random

from fixtures.builders.iort import Its, Map, Nc, Pmcg, Raw, Rc, Rmr, Smmu, SmmuV3, Spec, build, single


def altra(*, cohacc: bool = False) -> bytes:
    """Ampere Altra, ``iasl -d`` of 2022-08-02 (the same length and OEM strings as the log of 2025): 0x498 bytes, 18 nodes."""
    bases = (0x33FFE0000000, 0x37FFE0000000, 0x3FFFE0000000, 0x23FFE0000000, 0x2BFFE0000000, 0x2FFFE0000000)
    ids = (0, 1, 3, 4, 6, 7)
    segments = (0xC, 0xD, 0x0, 0x2, 0x4, 0x5)
    nodes: dict[str, Spec] = {f"its{n}": Its(n, revision=0) for n in ids}
    for number, segment in enumerate(segments):
        nodes[f"rc{number}"] = Rc(segment=segment, revision=1, maps=[Map(0, 0x10000, 0, f"smmu{number}")])
    for number, (base, its) in enumerate(zip(bases, ids, strict=True)):
        own = its << 16
        nodes[f"smmu{number}"] = SmmuV3(
            base=base, cohacc=cohacc, proximity=0, own=1, revision=2, maps=[Map(0, 0x10000, own, f"its{its}"), single(own, f"its{its}")]
        )
    return build(nodes, revision=0, oem="Ampere", oem_table="Altra", identifiers=False)


def n1sdp() -> bytes:
    """Arm N1SDP, ``iasl -d`` of July 2022: 0x104 bytes (so there is a second ITS group); ATS allowed, memory flags 0."""
    return build(
        {
            "its": Its(0, revision=0),
            "its1": Its(1, revision=0),
            "smmu": SmmuV3(
                base=0x4F400000, gsivs=(0x10B, 0, 0x10D, 0x10C), own=1, revision=2, maps=[Map(0, 0x10000, 0, "its"), single(0x10000, "its")]
            ),
            "rc": Rc(segment=0, ats=True, cpm=False, dacs=False, address_limit=0x2A, revision=1, maps=[Map(0, 0x10000, 0, "smmu")]),
        },
        revision=0, oem="ARMLTD", oem_table="ARMLIORT", identifiers=False,
    )  # fmt: skip


def kunpeng_template() -> bytes:
    """HiSilicon D06, the hand-written template of revision 0: two bus ranges behind the SMMU, two straight to the ITS."""
    return build(
        {
            "its": Its(0, revision=0),
            "smmu": SmmuV3(base=0x148000000, proximity=0, revision=0, maps=[Map(0, 0x10000, 0, "its")]),
            "rc": Rc(
                segment=0, cpm=False, dacs=False, revision=0,
                maps=[Map(0, 0x4000, 0, "smmu"),
                      Map(0x7E00, 0x100, 0x7E00, "smmu"), Map(0x7C00, 0x200, 0x7C00, "its"), Map(0x7400, 0x300, 0x7400, "its")],
            ),
        },
        revision=0, oem="HISI", oem_table="HIP08", identifiers=False,
    )  # fmt: skip


def gb10() -> bytes:
    """NVIDIA GB10 (DGX Spark), decoded by its owner: three SMMUv3s, segments 0 to 15, RMRs on the GPU's segment."""
    nodes: dict[str, Spec] = {
        "its": Its(0),
        "a": SmmuV3(base=0x13800000, gsivs=(342, 347, 340, 341), revision=4, maps=[Map(0x10000, 0x100001, 0x210000, "its")]),
        "b": SmmuV3(base=0x13000000, gsivs=(366, 371, 364, 365), revision=4, maps=[Map(0, 0x10001, 0, "its")]),
        "c": SmmuV3(base=0x14900000, gsivs=(397, 0, 395, 396), revision=4),
    }
    for segment in range(15):
        nodes[f"rc{segment}"] = Rc(segment=segment, address_limit=40, maps=[Map(0, 0x10000, 0x10000 * (segment + 1), "a")])
    nodes["rc15"] = Rc(segment=15, ats=True, address_limit=40, maps=[Map(0, 0x10000, 0, "b")])
    nodes["rmr"] = Rmr(
        regions=[(0x280000000, 2 << 30), (0x300000000, 48 << 20), (0xA1600000, 386 << 20)], maps=[Map(0, 0x101, 0, "b")]
    )  # fmt: skip
    return build(nodes, revision=6, oem="MEDTEK", oem_table="GB10")


def grace(*, canwbs: bool = True) -> bytes:
    """NVIDIA Grace, one socket: five SMMUv3s; segments 2 and 3 share one, and segment 8's StreamIDs begin at 0x10000."""
    bases = {"p": 0x11000000, "pcie0": 0x12000000, "pcie1": 0x15000000, "idle": 0x16000000, "c2c": 0x5000000}
    nodes: dict[str, Spec] = {"its": Its(0)}
    nodes["nc"] = Nc("\\_SB_.SOC0.NVD0", maps=[single(0x20, "p")])
    nodes |= {name: SmmuV3(base=base, proximity=0, maps=[Map(0, 0x40000, 0, "its")]) for name, base in bases.items()}
    for segment, (smmu, output) in {2: ("pcie0", 0), 3: ("pcie0", 0x10000), 6: ("pcie1", 0), 7: ("pcie1", 0x10000), 8: ("c2c", 0x10000)}.items():
        nodes[f"rc{segment}"] = Rc(segment=segment, ats=True, canwbs=canwbs, maps=[Map(0, 0x10000, output, smmu)])
    return build(nodes, revision=6, oem="NVIDIA", oem_table="A M I")


def everything() -> bytes:
    """One node of every type and every flag set somewhere."""
    return build(
        {
            "its": Its([0, 1, 7]),
            "v3": SmmuV3(
                base=0x2B400000, httu=2, proximity=3, model=1, gsivs=(74, 0, 75, 77), own=1, maps=[Map(0, 0x20000, 0, "its"), single(0x99, "its")]
            ),
            "v2": Smmu(
                base=0x4F000000, span=0x40000, model=3, dvm=True, coherent_walk=True, global_gsivs=(260, 261), context_gsivs=(262, 263, 264),
                maps=[Map(0, 0x100, 0x30000, "its")],
            ),
            "rc": Rc(
                segment=0x1F, ats=True, pri=True, pasid_forward=True, canwbs=True, address_limit=48, pasid_width=20,
                maps=[Map(0, 0x8000, 0x10000, "v3"), Map(0x8000, 0x8000, 0, "its")],
            ),
            "nc": Nc("\\_SB_.PCI0.DEV0", stall=True, pasid_bits=10, address_limit=40, maps=[single(0x42, "v3"), single(0x43, "v3")]),
            "pmcg": Pmcg(page0=0x2B410000, of="v3", page1=0x2B420000, maps=[single(0x77, "its")]),
            "rmr": Rmr(
                regions=[(0x80000000, 0x10000), (0x90000000, 0x200000)], remap_permitted=True, privileged=True, attributes=5,
                maps=[Map(0, 2, 0x10008, "v3")],
            ),
            "iwb": Raw(7, bytes.fromhex("0000002f000000000000") + b"\\_SB_.IWB0\0\0\0\0", revision=1),
        },
        revision=6,
    )  # fmt: skip


def random_table(seed: int) -> bytes:
    """Any of what the builder can build, in a revision that iasl knows (0, 3, 5 and 6 of 0 to 6).

    Names of components leave room for padding: on one that needs none iasl ends with "Invalid zero length subtable".
    """
    rng = random.Random(seed)

    def flag() -> bool:
        return rng.random() < 0.5

    revision = rng.choice([0, 3, 5, 6])
    its = [f"its{number}" for number in range(rng.randint(1, 3))]
    smmus = [f"smmu{number}" for number in range(rng.randint(1, 3))]
    nodes: dict[str, Spec] = {name: Its([rng.randint(0, 9) for _ in range(rng.randint(1, 3))], revision=rng.randint(0, 1)) for name in its}
    for name in smmus:
        maps = [Map(rng.randrange(1 << 16), rng.randint(1, 1 << 16), rng.randrange(1 << 20), rng.choice(its))]
        maps += [single(rng.randrange(1 << 20), rng.choice(its))] if flag() else []
        nodes[name] = SmmuV3(
            base=rng.randrange(1 << 28) << 16,
            cohacc=flag(),
            httu=rng.randint(0, 2),
            proximity=rng.choice([None, 0, 3]),
            model=rng.randint(0, 2),
            gsivs=(rng.randrange(2000), rng.randrange(2000), rng.randrange(2000), rng.randrange(2000)),
            own=1 if len(maps) > 1 else None,
            revision=rng.randint(1, 5),
            maps=maps,
        )
    if flag():
        nodes["v2"] = Smmu(
            base=rng.randrange(1 << 40),
            span=0x10000,
            model=rng.randint(0, 5),
            dvm=flag(),
            coherent_walk=flag(),
            global_gsivs=(1, 2),
            context_gsivs=tuple(range(3, rng.randint(4, 9))),
            maps=[Map(0, 0x100, 0, rng.choice(its))],
        )
    for number in range(rng.randint(0, 4)):
        ranges = [
            Map(rng.randrange(1 << 16), rng.randint(1, 1 << 16), rng.randrange(1 << 20), rng.choice([*smmus, *its])) for _ in range(rng.randint(0, 4))
        ]
        nodes[f"rc{number}"] = Rc(
            segment=rng.randrange(1 << 16),
            ats=flag(),
            pri=flag(),
            canwbs=flag(),
            cpm=flag(),
            dacs=flag(),
            address_limit=rng.randint(32, 64),
            revision=rng.randint(0, 4),
            maps=ranges,
        )
    for number in range(rng.randint(0, 3)):
        nodes[f"nc{number}"] = Nc(
            "\\_SB_.D" + "X" * rng.choice([0, 1, 3, 4, 5]) + str(number),
            stall=flag(),
            pasid_bits=rng.randint(0, 20),
            canwbs=flag(),
            address_limit=rng.randint(32, 64),
            maps=[single(rng.randrange(1 << 16), rng.choice(smmus)) for _ in range(rng.randint(0, 3))],
        )
    if flag():
        nodes["pmcg"] = Pmcg(
            page0=rng.randrange(1 << 40), of=rng.choice(smmus), page1=rng.randrange(1 << 40), maps=[single(7, its[0])] if flag() else []
        )
    if revision >= 5:
        nodes["rmr"] = Rmr(
            regions=[(rng.randrange(1 << 20) << 16, rng.randint(1, 100) << 16) for _ in range(rng.randint(1, 3))],
            remap_permitted=flag(),
            privileged=flag(),
            attributes=rng.randint(0, 5),
            maps=[Map(0, rng.randint(1, 300), rng.randrange(1 << 16), rng.choice(smmus)) for _ in range(rng.randint(1, 3))],
        )
    return build(nodes, revision=revision)


ALL = {
    "altra": altra(), "n1sdp": n1sdp(), "kunpeng": kunpeng_template(), "gb10": gb10(), "grace": grace(), "everything": everything(),
}  # fmt: skip
