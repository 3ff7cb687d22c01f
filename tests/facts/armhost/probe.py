"""A job for the emulated host: hot-plug under the monitor, then every endpoint on vfio-pci and probed, then one held open.

Leaves events.json, probed.json (a snapshot), busy.json and refusals.json in /out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from wizard.base.errors import WizardError
from wizard.facts.live import read_live
from wizard.facts.monitor import PciMonitor
from wizard.facts.probe import probe
from wizard.facts.snapshot import encode

SYS = Path("/sys/bus/pci/devices")
OUT = Path("/out")
ENDPOINTS = ("0000:11:00.0", "0000:14:00.0", "0000:41:00.0", "0000:42:00.0", "0000:81:00.0", "0000:81:00.1", "0000:83:01.0")

monitor = PciMonitor()


def events_of(act: Callable[[], object]) -> list[list[str | None]]:
    """What the monitor tells until nothing has come for three seconds."""
    act()
    seen: list[list[str | None]] = []
    while (change := monitor.poll(3)) is not None:
        seen.append([change.action, change.address, change.driver])
    return seen


def bind(address: str) -> None:
    """As an administrator does it by hand."""
    (SYS / address / "driver_override").write_text("vfio-pci")
    if (SYS / address / "driver").exists():
        (SYS / address / "driver/unbind").write_text(address)
    Path("/sys/bus/pci/drivers_probe").write_text(address)


def yes(question: str) -> bool:
    """Confirm, and keep the question."""
    questions.append(question)
    return True


questions: list[str] = []
said: list[str] = []
events = {
    "remove": events_of(lambda: (SYS / "0000:14:00.0/remove").write_text("1")),
    "rescan": events_of(lambda: Path("/sys/bus/pci/rescan").write_text("1")),
    "vfs": events_of(lambda: (SYS / "0000:11:00.0/sriov_numvfs").write_text("0")),
    "unbind": events_of(lambda: (SYS / "0000:41:00.0/driver/unbind").write_text("0000:41:00.0")),
}
(OUT / "events.json").write_text(json.dumps(events))

refusals: dict[str, list[object]] = {}


def refused(name: str, act: Callable[[], object]) -> None:
    """Keep what an action was refused with."""
    try:
        act()
    except WizardError as error:
        refusals[name] = [int(error.status), error.what, error.fix]


refused("nothing bound", lambda: probe(read_live(), yes, said.append))
for endpoint in ENDPOINTS:
    bind(endpoint)
end = time.monotonic() + 120
while lost := [name for name in ENDPOINTS if not any((SYS / name / "vfio-dev").glob("vfio*"))]:
    if time.monotonic() > end:
        raise TimeoutError(f"no VFIO device of {lost}")
    os.sched_yield()
refused("not confirmed", lambda: probe(read_live(), lambda question: False, said.append))
(OUT / "probed.json").write_bytes(encode(probe(read_live(), yes, said.append)))

holder = os.open(f"/dev/vfio/devices/{os.listdir(SYS / '0000:81:00.1/vfio-dev')[0]}", os.O_RDWR)
held = probe(read_live(), yes, said.append)
os.close(holder)
(OUT / "busy.json").write_text(json.dumps({"asked": [info.address for info in held.hw_info], "said": said, "questions": questions}))

# As an ordinary user, in a child that tells its answer through a pipe.
reader, writer = os.pipe()
if os.fork() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    refused("as nobody", lambda: probe(read_live(), yes, said.append))
    os.write(writer, json.dumps(refusals.get("as nobody")).encode())
    os._exit(0)
os.close(writer)
refusals["as nobody"] = json.loads(os.read(reader, 65536))
(OUT / "refusals.json").write_text(json.dumps(refusals))
