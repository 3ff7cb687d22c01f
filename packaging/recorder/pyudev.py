"""What the recorder asks of pyudev: the devices of one bus in /sys, and what udev keeps of each in its database. Python 3.6."""

import os

_DATABASE = "/run/udev/data"


class Device:
    """A device, and its properties: the kernel's (``uevent``) and those of udev's database, of which the second come last."""

    def __init__(self, subsystem, name):
        self.sys_name = name
        self.properties = dict(_words("/sys/bus/{}/devices/{}/uevent".format(subsystem, name), ""))
        # As systemd names the file of a device without a number (sd-device, device_get_device_id()): +SUBSYSTEM:NAME; a property is E:KEY=VALUE.
        self.properties.update(_words("{}/+{}:{}".format(_DATABASE, subsystem, name), "E:"))


class Context:
    """All devices."""

    def list_devices(self, subsystem):
        """Those of a bus."""
        place = "/sys/bus/{}/devices".format(subsystem)
        return [Device(subsystem, name) for name in sorted(os.listdir(place))] if os.path.isdir(place) else []


def _words(path, mark):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return  # udev does not run, or knows nothing of it: names come out of pci.ids then
    for line in lines:
        if line.startswith(mark) and "=" in line:
            yield tuple(line[len(mark) :].split("=", 1))
