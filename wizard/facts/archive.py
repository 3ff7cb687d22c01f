"""Archives of a host's files: a tar, plain or packed, or a zip. Nothing is unpacked to disk, and only what some reader may ask for is kept.

A sos report is read as it streams by: what is skipped in a plain tar is not read at all, what is skipped in a packed one is unpacked
and forgotten.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from typing import IO, Any

from wizard.base.errors import InputError
from wizard.base.text import size, visible
from wizard.facts.content import FILE_LIMIT, JSON_LIMIT, PATH_LIMIT, TEXT_LIMIT, without_zeros
from wizard.facts.memorytree import MemoryTree

# tar pads each attribute of a live /sys to the size that sysfs claims for it, a page: 64 KiB on many of these hosts. Zeros unpack fast.
ARCHIVE_LIMIT = 4 << 30  # bytes of an archive, unpacked
KEPT_LIMIT = 256 << 20  # bytes of files that are held in memory
HEADERS_LIMIT = 64 << 20  # bytes of long names and other extended headers, in all
MEMBER_LIMIT = 500_000
DEPTH = 96  # directories above one another; sysfs has some thirty, a device tree 64 below its root

# What no reader asks for, and what reports are large by. Anything else may be a source (`wizard.facts.container`).
_SKIPPED = re.compile(
    r"(?:^|/)(?:"
    r"proc/(?!(?:\d+|self)/(?:mounts|net/(?:route|if_inet6|ipv6_route))$|(?:1|self)/mountinfo$|(?:net|bus/pci|driver/nvidia|spl|sys/kernel|device-tree)(?:/|$)|[\w.-]+$)"
    r"|proc/(?:kallsyms|vmallocinfo|slabinfo|zoneinfo|pagetypeinfo|kcore|softirqs)$"
    r"|(?<!proc/)sys/(?:kernel/(?!iommu_groups|config/)|fs/(?!btrfs)|power/|block/|hypervisor/|devices/system/(?!node/|cpu/[a-z]+$)|module/[^/]+/(?!parameters/)|class/net/[^/]+/statistics/)"
    r"|sys/devices/.*/statistics/"
    r"|var/(?!log/dmesg$|lib/dbus/machine-id$)|run/(?!udev/data/|libvirt/qemu/)|usr/(?!share/qemu/firmware|lib/modules/[^/]+/config$)|(?<!var/)lib/(?!modules/[^/]+/config$)"
    r"|boot/(?!config-)|sos_(?:logs|reports|strings/(?!kernel/|pci/|devices/|logs/))"
    r"|sos_commands/(?!kernel/(?:dmesg|uname)|pci/|devices/udevadm_info_--export-db$|hardware/dmidecode$|filesys/mount_-l$"
    r"|block/lsblk_-O_-P$|networking/ip_|dpkg/dpkg_-l$|rpm/sh_-c_rpm|virsh/virsh_-r_nodedev-dumpxml_pci_|logs/journalctl_--no-pager(?:_--catalog)?_--boot$)"
    r")"
)
_WHOLE = re.compile(r"(?:^|/)(?:sys|proc|etc|run)/")  # files of the kernel's, and small ones
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_JOURNAL = re.compile(r"(?:^|/)sos_(?:commands|strings)/logs/")
_KERNEL_LINE = re.compile(rb"^.* kernel: .*$", re.MULTILINE)
_JOURNAL_LIMIT = 32 << 20  # bytes of the kernel's own lines


class ArchiveTree(MemoryTree):
    """A tar or zip of a tree or of several sources. Hard links are files; devices and pipes are left out."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._kept = 0
        try:
            with open(path, "rb") as plain:
                magic = plain.read(6)
            if magic.startswith(_ZIP):
                self._load_zip(path)
            else:
                with _open_packed(path, magic) as file:
                    self._load_tar(_Unpacked(file))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            kind = "zip" if magic.startswith(b"PK") else "tar"
            raise InputError(
                f"{visible(path)} is not a readable {kind} ({visible(str(error))}).", f"Give a directory with sys/, or a whole {kind} of one."
            ) from error

    def _load_tar(self, unpacked: _Unpacked) -> None:
        file: Any = unpacked  # tarfile asks for these three methods only
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for count, member in enumerate(archive):
                if count % 4096 == 0:
                    archive.members.clear()  # type: ignore[attr-defined] # or tarfile keeps every one of them
                if count > MEMBER_LIMIT:
                    raise ValueError(f"it has more than {MEMBER_LIMIT} members")
                if archive.offset > ARCHIVE_LIMIT:  # where the next header would be
                    raise ValueError(f"it unpacks to more than {size(ARCHIVE_LIMIT)}iB")
                name = self._inside(member.name)
                if _SKIPPED.search(name):
                    continue
                if member.issym():
                    self.links[name] = member.linkname
                elif member.islnk():
                    self._copy(self._inside(member.linkname), name)
                elif member.isfile():
                    unpacked.content = True
                    try:
                        content = archive.extractfile(member)
                        self._keep(name, content, member.size)
                    finally:
                        unpacked.content = False
                elif not member.isdir():
                    continue
                self.enter(name)
            unpacked.finish(archive.offset)

    def _load_zip(self, path: str) -> None:
        _bound_directory(path)
        unpacked = 0
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = self._inside(member.filename)
                if _SKIPPED.search(name):
                    continue
                mode = member.external_attr >> 16
                if member.flag_bits & 1:
                    raise ValueError(f"{visible(name)} is encrypted")
                if not member.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFLNK):
                    with archive.open(member) as content:
                        if stat.S_ISLNK(mode):
                            self.links[name] = content.read(PATH_LIMIT).decode(errors="backslashreplace")
                        else:
                            self._keep(name, content, member.file_size)
                            unpacked += len(self.files[name])
                self.enter(name)

    def _inside(self, path: str) -> str:
        name = posixpath.normpath(path)
        if name.startswith("/") or ".." in path.split("/") or len(name) > PATH_LIMIT or name.count("/") > DEPTH:
            raise InputError(f"{visible(self.name)} has a member that can't be taken: {visible(path[:200])}.", "Make the tar of a host's own tree.")
        return name

    def _keep(self, name: str, file: IO[bytes] | None, length: int) -> None:
        limit = JSON_LIMIT if name.endswith(".json") else FILE_LIMIT if _WHOLE.search(name) else TEXT_LIMIT
        if _JOURNAL.search(name):
            content = _kernel_lines(file) if file else b""
        else:
            content = file.read(limit) if file else b""
            if length > limit:
                self.unread["/" + name] = f"cut after {size(limit)}iB"
        self._hold(name, content)

    def _hold(self, name: str, content: bytes) -> None:
        self.files[name] = without_zeros(content)
        if len(self.files[name]) < len(content):
            self.padded[name] = len(content)
        self._kept += len(self.files[name])
        if self._kept > KEPT_LIMIT:
            raise ValueError(f"it holds more than {size(KEPT_LIMIT)}iB of files")

    def _copy(self, source: str, name: str) -> None:
        # tar writes the second name of a file as a link to the first, which stands before it; what nobody asks for was left out.
        if source in self.links:
            self.links[name] = self.links[source]
        elif source in self.files:
            self._hold(name, self.data(source, TEXT_LIMIT) or b"")


class _Unpacked:
    """What tarfile reads an archive from: its bytes, unpacked, within bounds. A header's length is the archive's own word."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._headers = 0
        self.content = False  # while a member's content is read, whose bounds are its reader's

    def read(self, length: int) -> bytes:
        """As a file's."""
        if not self.content and length > tarfile.BLOCKSIZE:
            self._headers += length
            if self._headers > HEADERS_LIMIT:
                raise ValueError(f"its headers hold more than {size(HEADERS_LIMIT)}iB")
        return self._file.read(length)

    def seek(self, position: int) -> int:
        """As a file's, from its beginning."""
        return self._file.seek(position)

    def tell(self) -> int:
        """As a file's."""
        return self._file.tell()

    def finish(self, position: int) -> None:
        """Look whether the archive ends where tarfile saw its last member (a damaged header is an end to it), and is whole to its end."""
        self._file.seek(position)
        block = self._file.read(tarfile.BLOCKSIZE)
        if any(block) or 0 < len(block) < tarfile.BLOCKSIZE:
            raise ValueError(f"it is damaged at byte {position}")
        while self._file.read(1 << 20):  # the check sums of gzip and xz come last
            if self._file.tell() > ARCHIVE_LIMIT:
                raise ValueError(f"it unpacks to more than {size(ARCHIVE_LIMIT)}iB")


def _open_packed(path: str, magic: bytes) -> Any:
    """The file, unpacked as it is read: gzip, bzip2 or xz by their first bytes."""
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError("it is packed with zstd: unpack it first")
    openers: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
    for start, opener in openers:
        if magic.startswith(start):
            return opener(path, "rb")
    return open(path, "rb", buffering=1 << 16)


def looks_like(path: str) -> bool | None:
    """Whether a file is a tar or zip by its first bytes, packed or not; None where they are neither that nor text."""
    try:
        with open(path, "rb") as plain:
            magic = plain.read(6)
        if magic.startswith(_ZIP):
            return True
        with _open_packed(path, magic) as file:
            head = file.read(tarfile.BLOCKSIZE)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
        return None
    if head[257:262] == b"ustar":
        return True
    # A tar of the seventies has no such mark, and is all zeros behind a name.
    known = head[:4].isalnum() or head.startswith(b"\xd0\x0d\xfe\xed")  # an ACPI table, a device tree
    return False if known or (head and b"\0" not in head) else None


def _kernel_lines(file: IO[bytes]) -> bytes:
    """Of a journal as text, what the kernel said: a service's lines can be a hundred times as many."""
    found: list[bytes] = []
    length, rest = 0, b""
    while length < _JOURNAL_LIMIT and (piece := file.read(1 << 20)):
        whole, _, rest = (rest + piece).rpartition(b"\n")
        lines = _KERNEL_LINE.findall(whole)
        length += sum(map(len, lines))
        found += lines
        rest = rest[-65536:]
    return b"\n".join([*found, *_KERNEL_LINE.findall(rest)])


def _bound_directory(path: str) -> None:
    """Refuse a zip whose directory would fill the memory before its first member can be looked at (APPNOTE 4.3.16)."""
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - (1 << 16) - 22))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise ValueError("its directory is not there: it may be cut short")
    members, length = int.from_bytes(tail[at + 10 : at + 12], "little"), int.from_bytes(tail[at + 12 : at + 16], "little")
    if members == 0xFFFF or length > HEADERS_LIMIT or b"PK\x06\x07" in tail[max(0, at - 20) : at]:
        raise ValueError("it has 65535 members or more")
