"""The VMs that run on this machine: libvirt's through ``virsh dumpxml``, every other QEMU through /proc. Nothing of them is changed.

What libvirt passes as descriptors is looked up in the process: ``/proc/PID/fd/N`` leads to ``/dev/vfio/devices/vfioN``, and that to a function.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.existing.guest import Fate, Function, Guest, Left, Machine, Origin, Where
from wizard.existing.load import Opened, opened_guest, read_guests
from wizard.existing.words.program import is_qemu

_LIMIT = 16 << 20  # bytes of a command line
_SECONDS = 30  # for virsh
_NAME = re.compile(rb"(?:^|\0)-name\0(?:guest=)?((?:[^,\0]|,,)*)")
_VFIO = re.compile(r"/dev/vfio/devices/(vfio[0-9]+)")


def running_vms(name: str | None = None, *, proc: Path = Path("/proc"), sys: Path = Path("/sys"), virsh: str | None = None) -> list[Opened]:
    """Every QEMU that runs here, or the one of a name. Raises ``InputError`` where there is none, or where it can't be looked at."""
    found: list[Opened] = []
    virsh = virsh if virsh is not None else shutil.which("virsh") or ""
    for pid, data in _processes(proc):
        called = _name(data)
        if name is not None and name not in (called, str(pid)):
            continue
        guests = _of_process(pid, data, proc, sys)
        xml = _dumpxml(virsh, called) if virsh and called and _of_libvirt(data) else None
        if xml is not None:
            source = f"VM {visible(called or '')} of libvirt"
            guests = [_proved(guest, pid) for guest in read_guests(xml, source)]
        found += [opened_guest(guest, guest.source, "libvirt" if xml is not None else "qemu") for guest in guests]
    if not found:
        what = "No QEMU runs on this machine." if name is None else f"No QEMU that runs here is called {visible(name)}."
        raise InputError(what, "Look with `virsh list` and `pgrep -a qemu`; of other users' processes only root sees everything.")
    return found


def _processes(proc: Path) -> Iterator[tuple[int, bytes]]:
    for entry in sorted(proc.iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else 0) if proc.is_dir() else ():
        if not entry.name.isdigit():
            continue
        try:
            with (entry / "cmdline").open("rb") as file:
                data = file.read(_LIMIT)
        except OSError:
            continue  # it has ended meanwhile
        if data and is_qemu(data.split(b"\0", 1)[0].decode(errors="replace")):
            yield int(entry.name), data


def _name(data: bytes) -> str | None:
    found = _NAME.search(data)
    return found[1].replace(b",,", b",").decode(errors="replace") if found else None


def _of_libvirt(data: bytes) -> bool:
    return b"/libvirt/" in data or b"libvirt-" in data


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


def _of_process(pid: int, data: bytes, proc: Path, sys: Path) -> list[Guest]:
    source = f"process {pid}"
    return [_proved(_with_functions(guest, proc / str(pid) / "fd", sys), pid) for guest in read_guests(data, source)]


def _proved(guest: Guest, pid: int) -> Guest:
    """A VM that runs has the KVM and the accel that it asked for."""
    machine = replace(guest.machine, kvm=True) if guest.origin is Origin.LIBVIRT and guest.machine.kvm is None else guest.machine
    assert isinstance(machine, Machine)
    return replace(guest, running=pid, machine=machine)


def _with_functions(guest: Guest, descriptors: Path, sys: Path) -> Guest:
    devices = []
    left = list(guest.left)
    for device in guest.devices:
        if isinstance(device, Function) and device.host is None and device.descriptor is not None:
            host, said = _function(device.descriptor, descriptors, sys)
            if host is not None:
                device = replace(device, host=host)
            else:
                where = device.place("host") or Where(source=guest.source)
                left.append(Left(fate=Fate.UNRESOLVED, where=where, name=f"descriptor {device.descriptor}", said=said))
        devices.append(device)
    return replace(guest, devices=tuple(devices), left=tuple(left))


def _function(descriptor: str, descriptors: Path, sys: Path) -> tuple[str | None, str]:
    """The function that a descriptor of a process is open for, else why that is not known."""
    try:
        target = os.readlink(descriptors / descriptor)
    except PermissionError:
        return None, "only root may look at the descriptors of the process"
    except OSError as error:
        return None, f"the process has no such descriptor ({error.strerror or error})"
    found = _VFIO.fullmatch(target)
    if found is None:
        return None, f"it is open for {visible(target)}"
    try:
        device = (sys / "class/vfio-dev" / found[1] / "device").resolve(strict=True)
    except OSError as error:
        return None, f"{found[1]} is not in sysfs ({error.strerror or error})"
    return device.name, ""
