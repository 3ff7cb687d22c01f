"""Which HWPT a real QEMU attaches a function to: by the trace events of one that is started paused, plugged into and reset. Writes /out/NAME.log.

Runs as root in the emulated host. Marks in the log stand between what QEMU did by itself, at device_add and at system_reset.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from typing import Any

PCI = "/sys/bus/pci/devices/"
NVME, VF, NIC = "0000:14:00.0", "0000:11:10.0", "0000:41:00.0"  # two behind one SMMU, the third behind another
FIRMWARE = "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd"
PATIENCE = 120  # seconds


def put(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def bind(address: str) -> None:
    put(PCI + address + "/driver_override", "vfio-pci")
    if os.path.exists(PCI + address + "/driver"):
        put(PCI + address + "/driver/unbind", address)
    put("/sys/bus/pci/drivers_probe", address)


def command_line(cold: tuple[str, ...], sock: str) -> list[str]:
    shutil.copy("/usr/share/AAVMF/AAVMF_VARS.fd", "/tmp/vars.fd")
    words = ["qemu-system-aarch64", "-machine", "virt,gic-version=3,accel=kvm", "-cpu", "host", "-m", "256M", "-nodefaults", "-display", "none", "-S"]
    words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}", "-drive", "if=pflash,unit=1,format=raw,file=/tmp/vars.fd"]
    words += ["-object", "iommufd,id=iommufd0", "-device", "pxb-pcie,id=pcie.1,bus=pcie.0,bus_nr=8", "-qmp", f"unix:{sock},server=on,wait=off"]
    words += ["-device", "arm-smmuv3,primary-bus=pcie.1,accel=on,ats=off,ril=on,ssidsize=0,oas=44,cmdqv=off", "-trace", "iommufd_*"]
    for number in range(2):
        words += ["-device", f"pcie-root-port,id=port{number},bus=pcie.1,chassis={number + 1},slot={number + 1}"]
    for number, address in enumerate(cold):
        words += ["-device", f"vfio-pci,host={address},iommufd=iommufd0,bus=port{number},id=dev{number}"]
    return words


def play(name: str, cold: tuple[str, ...], plugged: str) -> None:
    sock = f"/tmp/{name}.sock"
    with open(f"/out/{name}.log", "a") as log:
        qemu = subprocess.Popen(command_line(cold, sock), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        monitor = socket.socket(socket.AF_UNIX)
        monitor.settimeout(PATIENCE)
        while monitor.connect_ex(sock):
            if qemu.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{name}: QEMU did not come up")
            time.sleep(0.1)
        stream = monitor.makefile("rw")

        def ask(command: str, **arguments: Any) -> None:
            stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            stream.flush()
            while "return" not in (answer := json.loads(stream.readline())):
                if "error" in answer:
                    raise RuntimeError(f"{name}: {command}: {answer['error']['desc']}")

        def mark(text: str) -> None:
            log.write(f"\n-- {text}\n")  # behind QEMU, whose last message may have no end of line
            log.flush()

        stream.readline()
        ask("qmp_capabilities")
        mark("device_add")
        ask("device_add", driver="vfio-pci", host=plugged, iommufd="iommufd0", bus=f"port{len(cold)}", id="plugged")
        mark("system_reset")
        ask("system_reset")
        ask("query-status")
        mark("quit")
        ask("quit")
        qemu.wait(PATIENCE)


def main() -> None:
    subprocess.run(["modprobe", "-a", "vfio-pci", "iommufd"], check=False)
    for address in (NVME, VF, NIC):
        bind(address)
    subprocess.run(["udevadm", "settle"], check=False)
    play("beside", (NVME,), VF)
    play("first", (), NIC)
    play("other-smmu", (NVME,), NIC)


main()
