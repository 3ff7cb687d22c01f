"""The VMs that run on this machine: libvirt's through ``virsh dumpxml``, every other QEMU through /proc. Nothing of them is changed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from msgspec.structs import replace

from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.existing.guest import Guest, Origin
from wizard.existing.load import Opened, opened_guest, read_guests
from wizard.existing.processes import Process, running

_SECONDS = 30  # for virsh


def running_vms(name: str | None = None, *, proc: Path = Path("/proc"), sys: Path = Path("/sys"), virsh: str | None = None) -> list[Opened]:
    """Every QEMU that runs here, or the one of a name. Raises ``InputError`` where there is none, or where it can't be looked at."""
    virsh = virsh if virsh is not None else shutil.which("virsh") or ""
    found: list[Opened] = []
    for process in running(name, proc=proc, sys=sys):
        described = of_libvirt(process, virsh)
        found += [opened_guest(one, one.source, "libvirt") for one in described] or [opened_guest(process.guest, process.guest.source, "qemu")]
    if not found:
        raise no_vm(name)
    return found


def no_vm(name: str | None) -> InputError:
    """That none runs, or none of a name."""
    what = "No QEMU runs on this machine." if name is None else f"No QEMU that runs here is called {visible(name)}."
    return InputError(what, "Look with `virsh list` and `pgrep -a qemu`; of other users' processes only root sees everything.")


def of_libvirt(process: Process, virsh: str) -> list[Guest]:
    """A VM that libvirt started, in its words; empty where it is none, or libvirt does not answer."""
    name = process.guest.name
    xml = _dumpxml(virsh, name) if virsh and name and process.libvirt else None
    return [_proved(one, process.guest.running) for one in read_guests(xml, f"VM {visible(name or '')} of libvirt")] if xml is not None else []


def _dumpxml(virsh: str, name: str) -> bytes | None:
    """Libvirt's own description; None where it does not know the VM, or does not answer."""
    try:
        done = subprocess.run(
            [virsh, "--connect", "qemu:///system", "--readonly", "dumpxml", "--domain", name],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 and b"<domain" in done.stdout else None


def _proved(guest: Guest, pid: int | None) -> Guest:
    """A VM that runs has the KVM and the accel that it asked for."""
    machine = replace(guest.machine, kvm=True) if guest.origin is Origin.LIBVIRT and guest.machine.kvm is None else guest.machine
    return replace(guest, running=pid, machine=machine)
