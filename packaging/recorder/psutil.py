"""What the recorder asks of psutil, out of /proc and the kernel's own calls. Python 3.6.

Each function answers as psutil 7 does on Linux, and is held against it in tests/packaging/test_recorder.py.
"""

import fcntl
import os
import re
import socket
import struct
from collections import namedtuple

Memory = namedtuple("Memory", "total available free")
Partition = namedtuple("Partition", "device mountpoint fstype")
Address = namedtuple("Address", "family address")

_SIOCGIFCONF = 0x8912  # include/uapi/linux/sockios.h
_IFREQ = 40 if struct.calcsize("P") == 8 else 32  # struct ifreq: a name of 16 bytes, then a union


class Error(Exception):
    """A process that can't be asked, or has ended."""


def _text(path):
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def cpu_count():
    """CPUs that are online."""
    return os.sysconf("SC_NPROCESSORS_ONLN")


def virtual_memory():
    """Bytes: all, what could be had without swapping, free."""
    figures = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text("/proc/meminfo"), re.MULTILINE))
    total, free = int(figures["MemTotal"]) << 10, int(figures["MemFree"]) << 10
    available = int(figures.get("MemAvailable", "0")) << 10
    return Memory(total, available if 0 < available <= total else free, free)


def _unescaped(word):
    # getmntent(3): blanks, tabs, line breaks and backslashes are octal.
    return re.sub(r"\\(040|011|012|134)", lambda found: chr(int(found.group(1), 8)), word)


def disk_partitions(all=False):
    """What is mounted of file systems that stand on a device, and of ZFS."""
    kinds = set()
    for line in _text("/proc/filesystems").splitlines():
        nodev, _, kind = line.partition("\t")
        if nodev != "nodev" or kind == "zfs":
            kinds.add(kind)
    found = []
    for line in _text(os.path.realpath("/etc/mtab" if os.path.isfile("/etc/mtab") else "/proc/self/mounts")).splitlines():
        words = line.split(" ")
        if len(words) < 3 or line.startswith("#"):
            continue
        device, place, kind = map(_unescaped, words[:3])
        if device in ("/dev/root", "rootfs"):
            device = _root_device() or device
        if all or (device not in ("", "none") and kind in kinds):
            found.append(Partition(device, place, kind))
    return found


def _root_device():
    """The device of /, which mounts call /dev/root."""
    number = os.stat("/").st_dev
    major, minor = str(os.major(number)), str(os.minor(number))
    names = []
    try:
        names = [words[3] for words in map(str.split, _text("/proc/partitions").splitlines()) if words[:2] == [major, minor] and len(words) > 3]
    except OSError:
        pass  # the next place may tell
    if not names:
        try:
            names = re.findall(r"^DEVNAME=(.+)$", _text("/sys/dev/block/{}:{}/uevent".format(major, minor)), re.MULTILINE)
        except OSError:
            pass  # it is no block device: the mount's own word stands
    path = "/dev/" + names[0] if names else None
    return path if path and os.path.exists(path) else None


def net_if_addrs():
    """Interface -> its addresses: IPv4 by SIOCGIFCONF (netdevice(7)), IPv6 by /proc/net/if_inet6."""
    found = {}
    for name, address in sorted(set(_ipv4())):
        found.setdefault(name, []).append(Address(socket.AF_INET, address))
    try:
        lines = _text("/proc/net/if_inet6").splitlines()
    except OSError:
        lines = []  # a kernel without IPv6
    for line in lines:
        digits, _, _, scope, _, name = line.split()
        address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
        found.setdefault(name, []).append(Address(socket.AF_INET6, address + "%" + name if scope == "20" else address))
    return found


def _ipv4():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        size = 64 * _IFREQ
        while True:
            space = bytearray(size)
            where = (ctypes_address(space), size)
            used = struct.unpack("iP", fcntl.ioctl(asked, _SIOCGIFCONF, struct.pack("iP", size, where[0])))[0]
            if used < size - _IFREQ:
                break
            size *= 2  # it was full: there may be more
    for at in range(0, used, _IFREQ):
        name = bytes(space[at : at + 16]).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        yield name, socket.inet_ntoa(bytes(space[at + 20 : at + 24]))


def ctypes_address(space):
    """Where a bytearray's bytes are, for the kernel to fill."""
    import ctypes

    return ctypes.addressof((ctypes.c_char * len(space)).from_buffer(space))


class Process:
    """This process, or one above it."""

    def __init__(self, pid=None):
        self.pid = os.getpid() if pid is None else pid

    def environ(self):
        """Its environment."""
        try:
            text = _text("/proc/{}/environ".format(self.pid))
        except OSError as error:
            raise Error(str(error)) from error
        return dict(word.split("=", 1) for word in text.split("\0") if "=" in word)

    def parent(self):
        """The process that started it; None for the first one."""
        try:
            above = int(_text("/proc/{}/stat".format(self.pid)).rpartition(")")[2].split()[1])
        except OSError as error:
            raise Error(str(error)) from error
        return Process(above) if above else None
