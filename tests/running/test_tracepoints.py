"""The kernel's IOMMU tracepoints: its own formats, and a trace instance of a real kernel that is made, read and taken away."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.processes import LIMIT
from wizard.running.watch.events import Owner
from wizard.running.watch.tracepoints import DOMAINS, MAPPINGS, parsed, record, unseen

NVME = "0000:14:00.0"
# TP_printk of include/trace/events/iommu.h and "print fmt" of events/iommu/*/format, Linux 6.18; what a test says of it, and what is to be read
FORMATS: dict[str, tuple[str, tuple[object, ...], dict[str, str]]] = {
    "add_device_to_group": ("IOMMU: groupID=%d device=%s", (7, NVME), {"group": "7", "device": NVME}),
    "remove_device_from_group": ("IOMMU: groupID=%d device=%s", (7, NVME), {"group": "7", "device": NVME}),
    "attach_device_to_domain": ("IOMMU: device=%s", (NVME,), {"device": NVME}),
    "io_page_fault": (
        "IOMMU:%s %s iova=0x%016llx flags=0x%04x", ("vfio-pci", NVME, 0xDEAD0000, 1),
        {"driver": "vfio-pci", "faulting": NVME, "fault": "0x00000000dead0000", "flags": "0x0001"},
    ),
    "map": (
        "IOMMU: iova=0x%016llx - 0x%016llx paddr=0x%016llx size=%zu", (0x1000, 0x3000, 0x80000000, 8192),
        {"iova": "0x0000000000001000", "end": "0x0000000000003000", "paddr": "0x0000000080000000", "size": "8192"},
    ),
    "unmap": (
        "IOMMU: iova=0x%016llx - 0x%016llx size=%zu unmapped_size=%zu", (0x1000, 0x3000, 8192, 4096),
        {"iova": "0x0000000000001000", "end": "0x0000000000003000", "size": "8192", "unmapped": "4096"},
    ),
}  # fmt: skip
LINE = "     kworker/0:1-12      [000] d..1.   577.539085: {}: {}"
# Where tracefs is not mounted or somebody's own: in a mount name space of its own, whose end takes the mount away.
LOOK = """\
import json, os, sys
from pathlib import Path
from wizard.running.watch.events import Owner
from wizard.running.watch.tracepoints import DOMAINS, Tracepoints, parsed, tracefs, unseen

sys_ = Path(sys.argv[1])
place = tracefs(sys_)
formats = {one.name: one.joinpath("format").read_text() for one in (place / "events/iommu").iterdir() if one.is_dir()}
before = sorted(os.listdir(place / "instances"))
unasked = unseen(sys_)
trace = Tracepoints(sys_, DOMAINS, lambda function: Owner("web"))
on = [name for name in trace.names if (trace.place / "events/iommu" / name / "enable").read_text().strip() == "1"]
others = (place / "events/iommu/enable").read_text().strip()
(trace.place / "trace_marker").write_text("IOMMU: device=0000:14:00.0")
line = os.read(trace.fileno(), 65536).decode().splitlines()[-1]
silent = list(trace.records())
trace.close()
print(json.dumps({"formats": formats, "unasked": unasked, "on": on, "others": others, "line": line, "silent": len(silent),
                  "left": sorted(set(os.listdir(place / "instances")) - set(before))}))
"""


@pytest.mark.parametrize("name", FORMATS)
def test_what_the_kernels_own_format_prints_is_read(name: str) -> None:
    form, values, fields = FORMATS[name]
    assert name in (*DOMAINS, *MAPPINGS)
    found = parsed(LINE.format(name, re.sub("ll|z(?=u)", "", form) % values))
    assert found == (name, "577.539085", fields)


def test_a_line_becomes_what_happened_to_a_vms_function() -> None:
    found = parsed(LINE.format("attach_device_to_domain", f"IOMMU: device={NVME}"))
    assert found is not None
    one = record(*found, lambda function: Owner("web"))
    assert (one.source, one.kind, one.vm, one.function, one.stamp) == ("trace", "attach_device_to_domain", "web", NVME, "577.539085")
    other = parsed(LINE.format("io_page_fault", "IOMMU:platform arm-smmu-v3.0.auto iova=0x00000000dead0000 flags=0x0000"))
    assert other is not None
    one = record(*other, lambda function: Owner("web"))
    assert (one.vm, one.function, one.address) == (None, None, "0xdead0000")
    assert parsed(LINE.format("sched_switch", "prev_comm=a")) is None
    assert parsed("CPU:0 [LOST 5 EVENTS]") is None


def test_why_they_are_not_seen(tmp_path: Path) -> None:
    assert "no tracefs" in unseen(tmp_path)
    (tmp_path / "kernel/tracing/events").mkdir(parents=True)
    assert unseen(tmp_path) == "IOMMU tracepoints are not seen: this kernel has none."
    (tmp_path / "kernel/tracing/events/iommu").mkdir()
    assert "--tracepoints" in unseen(tmp_path)


def test_a_real_kernels_formats_and_an_instance_that_goes_away_again(tmp_path: Path) -> None:
    mounts = tmp_path / "sys/kernel/tracing"
    mounts.mkdir(parents=True)
    if os.geteuid() or not shutil.which("unshare"):
        skip_loudly("no tracefs for this user", "root and unshare(1) give a test one of its own")
    words = ["unshare", "--mount", "sh", "-c", 'mount -t tracefs none "$1" && [ -d "$1/events/iommu" ] || exit 77; exec "$2" -c "$3" "$4"', "sh"]
    words += [str(mounts), sys.executable, LOOK, str(tmp_path / "sys")]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode in (1, 32, 77) and "Traceback" not in done.stderr:
        skip_loudly("no IOMMU tracepoints in this kernel", "a kernel with CONFIG_FTRACE and an IOMMU driver has them")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    for name, (form, _, _) in FORMATS.items():
        if name in seen["formats"]:
            assert f'print fmt: "{form}"' in seen["formats"][name]
    assert set(seen["on"]) == set(seen["formats"]) & set(DOMAINS)
    assert seen["others"] == "0", "what everybody's trace has is left alone"
    assert "--tracepoints" in seen["unasked"]
    # A line of this kernel's own making, with another name: its head is what is read.
    found = parsed(seen["line"].replace("tracing_mark_write", "attach_device_to_domain"))
    assert found is not None, seen["line"]
    assert found[2] == {"device": NVME}
    assert (seen["silent"], seen["left"]) == (0, [])
