"""The topology's model against the plan's requests and the host's sysfs."""

from tests.tools.hosts import E1000E, NVME, PAIR, SMMU1, SMMU2, VF0, VIRTIO, facts, host, plan, two_nodes, vm
from wizard.base.glyphs import ASCII, UNICODE
from wizard.picture import topotext
from wizard.picture.pieces import keys_of, plain, row_width
from wizard.picture.topology import topology
from wizard.plan.request import Mode, NodeRequest

GIB = 1 << 30


def test_what_each_vm_has_and_where_it_comes_from() -> None:
    vms = (vm(NVME, E1000E, name="web"), vm(VF0, name="db"), vm(*PAIR, name="cold", mode=Mode.NONE))
    picture = topology(host(), plan(*vms))
    linked = {f.address: f.iommu for f in facts("arm64-virt-canwbs").functions}
    asked = {(one.name, function.host) for one in vms for function in one.functions}
    assert {(edge.vm, edge.address) for edge in picture.edges} == asked
    assert all(edge.smmu == linked[edge.address] for edge in picture.edges)
    assert [(box.name, box.letter, box.colour) for box in picture.vms] == [("web", "A", "c0"), ("db", "B", "c1"), ("cold", "C", "c2")]
    boxes = {box.name: box for box in picture.smmus}
    assert (boxes[SMMU1].vms, boxes[SMMU1].shared) == (("web", "db"), True)
    assert (boxes[SMMU2].vms, boxes[SMMU2].shared) == (("web",), False)
    cold = picture.vms[2].gates
    assert [gate.vsmmu for gate in cold] == [None]  # no vIOMMU was asked for
    # Both ends of a line have one tag.
    near = {end.address: end.tag for box in picture.vms for gate in box.gates for end in gate.ends}
    far = {end.address: end.tag for box in picture.smmus for end in box.ends}
    assert near == far
    assert len(set(near.values())) == len(near)
    endpoints = {address for address, function in host().functions.items() if not function.is_bridge}
    assert {one for box in picture.smmus for one in box.free} == endpoints - {address for _, address in asked}


def test_a_crossing_is_told_where_memory_is_bound_and_only_there() -> None:
    two = two_nodes()  # the first SMMU's functions on node 1, the second's on node 0
    bound = vm(NVME, VIRTIO, name="bound", numa=(NodeRequest(memory=GIB, cpus="0-1", host_node=1),))
    spread = vm(VF0, E1000E, name="spread", numa=())
    picture = topology(two, plan(bound, spread, on=two))
    assert {edge.address for edge in picture.edges if edge.crossing} == {VIRTIO}
    assert picture.crossings == 1
    assert picture.nodes == (0, 1)
    assert "on node 0, the memory of bound on 1" in plain(topotext.draw(picture, 198, UNICODE))
    # What the host does not show has no node that could be told.
    gone = topology(two, plan(vm("0000:77:00.0", name="other"), on=two))
    assert not gone.crossings
    assert gone.smmus[-1].ends[0].note == "not on this host"


def test_the_drawing_has_everything_at_every_size() -> None:
    picture = topology(host(), plan(vm(NVME, E1000E, name="web"), vm(VF0, name="db")))
    asked = {("function", NVME, "web"), ("function", E1000E, "web"), ("function", VF0, "db"), ("vm", "web"), ("vm", "db")}
    for width, height in ((60, 20), (78, 20), (118, 36), (198, 56)):
        drawn = topotext.draw(picture, width, UNICODE, height=height)
        assert asked <= set(keys_of(drawn))
        assert all(row_width(one) <= width for one in drawn)
    # In a large terminal it reaches near the lower edge, and lists what nobody has.
    assert len(topotext.draw(picture, 198, UNICODE, height=30)) > 18
    assert any(isinstance(key, tuple) and key[0] == "free" for key in keys_of(topotext.draw(picture, 198, UNICODE, height=56)))
    assert plain(topotext.draw(picture, 118, ASCII)).isascii()
    assert "the host alone" in plain(topotext.draw(topology(host(), None), 78, UNICODE))
