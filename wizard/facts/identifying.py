"""What in a text tells whose machine it is, and the form of the pseudonym that takes its place.

Two ways of knowing: by its form (a MAC address, a UUID, ``serial=…``), and by what this host is known to have (``Secrets``:
its names, its users, the serial numbers and MAC addresses of its parts), which is found in any spelling. What only looks like
one of these stays as it is: addresses of functions and registers, versions, times.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial

from wizard.facts import cmdline
from wizard.facts.pseudonym import COMMAND_LINE, Pseudonyms, Secrets, group

_HEX2, _HEX4 = "[0-9A-Fa-f]{2}", "[0-9A-Fa-f]{4}"
_HYPHEN = r"(?:-|\\x2d)"  # as systemd escapes it in the names of units
_MAC_KEY = r"(?i:\b(?:mac|hw|ether|perm)[ _-]?(?:addr(?:ess)?)?\s*[:=]?\s*)"
# What is said to be a secret by its key: KEY=, and for the clearest of them KEY: too.
_SECRETS = r"password|passwd|passphrase|passcode|secret|token|credentials?|api[_-]?key|auth[_-]?key|access[_-]?key|private[_-]?key|psk|root_?pw"
_SECRET_KEY = rf"(?:[\w.-]*?(?:{_SECRETS}|set_credential\w*|user(?:name)?|login)|(?:[\w.-]*[_.-])?(?:pw|pass|pin|key|owner))"
_SERIAL_KEY = (
    r"(?:serial(?:[ _-]?(?:number|num|no))?[\"']?(?:\s*[:=#]\s*|\s+(?=(?:[A-Za-z_-]{0,32}\d){3}))[\"']?"
    r"|(?:serial[ _-]?number|(?:asset|inventory)(?:[ _-]?(?:tag|number|id))?|board[ _-]?id|service[ _-]?tag)[\"']?(?:\s*[:=#]\s*|\s+)[\"']?"
    r"|S/?N[\"']?\s*[:=#]\s*[\"']?|S/N\s+|SN[\s-](?=[0-9A-Za-z_-]{0,32}\d))"
)
_UNIT = r"(?:service|scope|socket|slice|timer|mount)(?![\w-])"
_DEVICE_FOLDERS = (
    r"(?:disk|block|char|mapper|vfio|dri|infiniband|md|zvol|bus|cpu|cpu_dma_latency|dma_heap|input|net|shm|pts|snd|mqueue|hugepages|fd|usb|accel|nvidia-caps"
    r"|nvme-fabrics|cciss|iommu)"
)
# Repetitions are bounded, or begin where nothing of their kind stands before: a line of a megabyte must not take a minute.
_PATTERN = re.compile(
    "|".join(
        (
            rf"""(?<![\w.-])(?P<secret>(?i:{_SECRET_KEY}=)(?:"[^"]*"?|'[^']*'?|\S+)|(?i:[\w.-]*?(?:{_SECRETS})["']?\s{{0,4}}:\s{{0,4}})\S+)""",
            r"(?<=`)(?P<invalid>[^'`\n]{1,512})(?=' (?:invalid|too large) for parameter)",  # parse_args() of kernel/params.c
            r"(?<=://)(?P<authority>[^/\s]+)",
            r"(?:/dev/disk/by-(?:id|uuid|label|partuuid|partlabel)/|\b(?:PART)?(?:UUID|LABEL)=)(?P<disk>[^\s,]+)",
            rf"(?:(?<![0-9A-Fa-f])|(?<=\\x2d))(?P<uuid>[0-9A-Fa-f]{{8}}{_HYPHEN}(?:{_HEX4}{_HYPHEN}){{3}}[0-9A-Fa-f]{{12}})(?![0-9A-Fa-f])",
            r"(?<!\w)(?P<id>[0-9A-Fa-f]{32})(?!\w)",
            r"(?<!\w)(?P<wwid>[23][0-9a-f]{16}(?:[0-9a-f]{16})?)(?!\w)",  # of multipath; no address has 17 digits
            r"(?<!\w)(?:(?:naa|eui|t10|nvme)\.|wwn-(?:0x)?)(?P<wwn>\w[\w.-]{5,})",
            r"(?i:(?<![A-Za-z0-9])(?:ww[pn]?n|wwid|n?guid|eui-?64|uuid)[\"']?[ :=]{1,3}[\"']?(?:0x|eui\.|naa\.|t10\.)?)(?P<identifier>\w[\w-]{7,})",
            r"(?<!\w)0x(?P<naa>[56][0-9a-f]{15})(?!\w)",  # IEEE registered names (T10 SPC-5, 7.7.6.6): no address of a machine is so high
            r"(?<!\w)(?P<iqn>[in]qn\.\d{4}-\d{2}\.[\w.:-]+)",
            rf"(?<![0-9A-Za-z])(?P<octets>{_HEX2}(?P<sep>[:-]){_HEX2}(?:(?P=sep){_HEX2}){{4,}})(?![0-9A-Za-z])",
            rf"(?<![\w.])(?P<dotted>{_HEX4}\.{_HEX4}\.{_HEX4})(?![\w.])",
            rf"(?:(?<!\w)(?:enx|wlx|wwx)|{_MAC_KEY})(?P<bare>[0-9A-Fa-f]{{12}})(?!\w)",
            r"(?<![\w.])(?P<ip>(?:\d{1,3}\.){3}\d{1,3})(?!\w|\.\d)",
            r"(?:(?<![\w.:])|(?<=\w)(?=:))(?P<ip6>[0-9A-Fa-f:]{0,39}:[0-9A-Fa-f:]{0,39}:[0-9A-Fa-f:.]{0,45})(?!\w)",
            rf"""(?i:(?<![A-Za-z0-9]){_SERIAL_KEY})(?P<serial>[^\s,;"']+)""",
            r"(?<![\w-])(?P<numbered>(?=[0-9A-Z]*[G-Z])(?=(?:[A-Z]*[0-9]){4})[0-9A-Z]{9,64})(?![\w-])",  # like a serial number, and like no register
            r"(?:/home/|/media/|/run/user/)(?P<user>[^/\s,]+)",
            r"(?i:\b(?:opened by|by user|for user|of user)\s+)(?P<who>[A-Za-z_][\w.-]*)",
            r"(?i:\b(?:host(?:[ _-]?name)?|domain[ _-]?name)=)(?P<host>[^\s,:/]+)",
            r"(?:\bmachine-(?:qemu|lxc)(?:\\x2d|-)\d+(?:\\x2d|-)|(?<![\w-])qemu-vm-|\bqemu:|\bguest=|\blibvirt-\d+-)(?P<vm>[^\s,;/)\]]+?)(?=\.scope\b|[\s,;/)\]]|\Z)",
            rf"(?<=@)(?P<instance>[A-Za-z][^\s,;/@]*?)(?=\.{_UNIT})",
            r"/dev/mapper/(?!control\b)(?P<mapped>[^\s,;:'\"()]+)",
            r"/dev/(?:zvol|md)/(?P<named>[^\s,;:'\"()]+)",
            rf"/dev/(?!{_DEVICE_FOLDERS}/)(?P<volume>[\w+.-]+/[\w+.-]+)",
            r"(?i:\b(?:zfs )?pool )(?P<pool>\w[\w.:-]*)(?= stands| on\b|\Z)",
            # not ITS@0x8080000, not serial@9000000, not qemu@web.service
            rf"(?<![\w.+-])(?P<at>[\w.+-]{{1,64}}@(?!(?:0x)?[0-9A-Fa-f]+(?![\w.-]))(?![\w.\\-]*\.{_UNIT})[\w.-]+\w)",
        )
    )
)
# ip=<client>:<server>:<gateway>:<netmask>:<hostname>:… (nfsroot.rst)
_NAMED_BY_IP = re.compile(r"(?<!\w)(ip=(?:(?:\[[^\]\s]*\]|[^\s:\[]*):){4})([^\s:]+)")
_VERSION = re.compile(r"(?i)(?:\bv|\bver\.?|version|rev(?:ision)?\.?|release|firmware|fw)[\s:=]*\Z")
_EUI = re.compile(rf"(?:{_HEX2}[:-]){{7}}{_HEX2}")
_SPACES = re.compile(r"\s+")
_MAC = re.compile(rf"(?:{_HEX2}:){{5}}{_HEX2}")
_PRODUCT = "DMI: "  # what dmi_format_ids() of the kernel says begins with it
_KEY = re.compile(r"""[^=:]*[=:]\s*["']?""")
_MOUNT = re.compile(r"(?<= on )/\S.*", re.DOTALL)
_INTERFACE_IN_DETAIL = re.compile(r"(?:^\S+(?= is a port of )|(?<= is a port of )\S+|(?:(?<= route on )|(?<= address on )|(?<= comes in on ))\S+)")
# Directories of the Filesystem Hierarchy Standard and of what runs VMs: where a disk is mounted tells no more than that.
_PLACES = frozenset(
    (
        "",
        *("boot", "efi", "EFI", "home", "root", "var", "usr", "tmp", "opt", "srv", "mnt", "media", "run", "dev", "proc", "sys", "etc", "lib", "log"),
        *("local", "cache", "spool", "share", "src", "data", "libvirt", "images", "qemu", "docker", "containers", "kubelet", "swap", "snap", "store"),
    )
)
# Where a name may begin and end. An underscore ends one: volume groups and disks are called vg_NAME, MODEL_SERIAL.
_BEGIN = re.compile(r"(?<![^\W_])(?<!\.)|(?<=\b0[xX])")
_END = re.compile(r"(?![^\W_])")
_BOOTIF = ("01", 7)  # pxelinux: the hardware type of Ethernet, then the address


class Cleaner:
    """Replaces what must not be told in texts of each kind. The same text has the same answer, found once."""

    def __init__(self, secrets: Secrets, given: Pseudonyms) -> None:
        self._given = given
        self._spellings = dict(_spellings(secrets, given))
        self._longest = max(map(len, self._spellings), default=0)
        self._known: dict[str, str] = {}

    def text(self, text: str) -> str:
        """Any text."""
        found = self._known.get(text)
        if found is None:
            named = _NAMED_BY_IP.sub(lambda match: match[1] + _host(match[2], self._given), text) if "ip=" in text else text
            found = self._known[text] = self.names(_PATTERN.sub(lambda match: _replace(match, self._given), named))
        return found

    def line(self, line: str) -> str:
        """A line of the kernel's log, which may repeat the command line."""
        parts = cmdline.echo(line)
        return self.text(line) if parts is None else self.text(parts[0]) + self.command_line(parts[1]) + self.text(parts[2])

    def command_line(self, line: str) -> str:
        """The kernel's command line."""
        return cmdline.told(line, self._form, self._whole)

    def product(self, text: str) -> str:
        """What SMBIOS calls the machine: names of products look like serial numbers."""
        return self.text(_PRODUCT + text).removeprefix(_PRODUCT)

    def detail(self, text: str) -> str:
        """What uses a function: a device and where it is mounted, an interface and what it belongs to, a process and its unit."""
        return self.text(_INTERFACE_IN_DETAIL.sub(lambda match: self.interface(match[0]), _MOUNT.sub(lambda match: self._place(match[0]), text)))

    def interface(self, name: str) -> str:
        """The name of a network interface, or of what it is part of."""
        cleaned = self.text(name)
        return cleaned if cleaned != name or cmdline.INTERFACE.fullmatch(name) else "net-" + self._given.digits("interface name", name)[:8]

    def _place(self, path: str) -> str:
        return "/".join(part if part in _PLACES else "dir-" + self._given.digits("directory", part)[:8] for part in path.split("/"))

    def names(self, text: str) -> str:
        """A text of a form of its own (a version, say), in which only what this host is known to have is looked for."""
        pieces: list[str] = []
        done = 0
        ends = [match.start() for match in _END.finditer(text)] if self._spellings else []
        for match in _BEGIN.finditer(text) if ends else ():
            begin = match.start()
            if begin < done:
                continue
            # the longest first, of those that end where a word may end
            for end in reversed(ends[bisect_right(ends, begin) : bisect_right(ends, begin + self._longest)]):
                if (name := self._spellings.get(text[begin:end].lower())) is not None:
                    pieces += (text[done:begin], name())
                    done = end
                    break
        return "".join((*pieces, text[done:])) if pieces else text

    def _form(self, kind: str, text: str) -> str:
        return _FORMS[kind](text, self._given)

    def _whole(self, piece: str) -> str:
        """A piece of the command line by the name that it is; a pseudonym from an earlier redaction stays."""
        name = self._spellings.get(piece.lower())
        return name() if name else self._given.hide(COMMAND_LINE, piece)


def serial(text: str, given: Pseudonyms) -> str:
    """The pseudonym of a serial number: an EUI-64's in its own form."""
    if _EUI.fullmatch(text):
        return group(given.digits("serial number", text.lower().replace(":", "-"))[:16], "-")
    return "serial-" + given.digits("serial number", text)[:12]


def _spellings(secrets: Secrets, given: Pseudonyms) -> Iterator[tuple[str, Callable[[], str]]]:
    """(as it may be written, in lower case; its pseudonym in that form), which counts as given when it is asked for."""
    for kind, names in (("user", secrets.users), ("host", secrets.hosts)):
        for name in names:
            form = partial(lambda kind, name: f"{kind}-{given.digits(f'{kind} name', name)[:8]}", kind, name)
            yield name.lower(), form
            yield name.lower().replace("-", "--"), form  # device mapper doubles hyphens
            yield name.lower().replace("-", "_"), form  # where a hyphen may not be: shell variables, names of volumes
            yield name.lower().replace(".", "_").replace("-", "_"), form
    for name in secrets.disks:
        form = partial(_disk, name, given)
        yield name.lower(), form
        yield name.lower().replace("-", "--"), form
    for name in secrets.interfaces:
        yield name.lower(), partial(lambda name: "net-" + given.digits("interface name", name)[:8], name)
    for number in secrets.serials:
        lower, plain = number.lower(), partial(serial, number, given)
        yield lower, plain
        if _SPACES.search(lower):
            yield _SPACES.sub("_", lower), plain  # udev's by-id names
        yield number.encode().hex(), plain  # the kernel's own name of an NVMe namespace: nvme.VENDOR-SERIAL-MODEL in hexadecimal
        if _EUI.fullmatch(number):  # a GUID of InfiniBand is the same number in two other forms
            bare = lower.replace("-", "").replace(":", "")
            yield bare, partial(_guid, number, given)
            yield group(bare, ":", 4), partial(_guid, number, given, ":")
    for address in secrets.macs:
        if _MAC.fullmatch(address):
            yield from _forms_of_mac(address.lower(), given)


def _guid(number: str, given: Pseudonyms, separator: str = "") -> str:
    return group(serial(number, given).replace("-", ""), separator, 4)


def _forms_of_mac(address: str, given: Pseudonyms) -> Iterator[tuple[str, Callable[[], str]]]:
    bare = address.replace(":", "")
    plain = partial(_bare, bare, given)
    yield bare, plain
    yield address.replace(":", " "), lambda: group(plain(), " ")
    # Also within an EUI-64, with the bit of universal addresses turned over or not (RFC 4291, appendix A): a GUID of InfiniBand, an IPv6 address.
    turned = f"{int(bare[:2], 16) ^ 2:02x}{bare[2:]}"
    for digits in (bare, turned):
        number = f"{digits[:6]}fffe{digits[6:]}"
        yield number, lambda: plain()[:6] + "fffe" + plain()[6:]
        yield group(number, ":", 4), lambda: group(plain()[:6] + "fffe" + plain()[6:], ":", 4)


def _replace(match: re.Match[str], given: Pseudonyms) -> str:
    kind = match.lastgroup or ""
    value = match[kind]
    if kind == "numbered" and _PRODUCT in match.string:
        return match[0]  # names of product, board and firmware: who makes the machine, not which one it is
    if kind == "naa" and "arm-smmu-v3" in match.string:
        return match[0]  # a word of an event record
    if kind == "ip" and _VERSION.search(match.string[max(0, match.start() - 16) : match.start()]):
        return match[0]
    before, after = match[0][: match.start(kind) - match.start()], match[0][match.end(kind) - match.start() :]
    return before + _FORMS[kind](value, given) + after


def _uuid(value: str, given: Pseudonyms) -> str:
    hyphen = "\\x2d" if "\\" in value else "-"
    digits = given.digits("UUID", value.lower().replace("\\x2d", "-"))
    return hyphen.join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def _octets(value: str, given: Pseudonyms) -> str:
    """A hardware address of six octets; the eight of an EUI-64, and other lengths, by the same rule."""
    separator, octets = value[2], (len(value) + 1) // 3
    if octets == 8:
        return serial(value, given)
    if (value[:2], octets) == _BOOTIF:
        return value[:3] + _octets(value[3:], given)
    # 02: locally administered, so that no pseudonym is a vendor's.
    digits = given.digits("MAC address", value.lower().replace("-", ":"))
    return group(("02" + digits * (octets // 32 + 1))[: octets * 2], separator)


def _bare(value: str, given: Pseudonyms) -> str:
    return _octets(group(value, ":"), given).replace(":", "")


def _dotted(value: str, given: Pseudonyms) -> str:
    return group(_bare(value.replace(".", ""), given), ".", 4)


def _ip(value: str, given: Pseudonyms) -> str:
    """An address, also with the full stop or colon of its sentence behind it; with a colon before it that is another word's, what follows."""
    for text in (value, *(value[:-end] for end in (1, 2) if not value[-end:].strip(":."))):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if address.is_loopback or address.is_unspecified or str(address).startswith("255."):
            return value
        return "ip-" + given.digits("IP address", str(address))[:8] + value[len(text) :]
    return ":" + _PATTERN.sub(lambda match: _replace(match, given), value[1:]) if value.startswith(":") else value


def _disk(value: str, given: Pseudonyms) -> str:
    whole = _PATTERN.fullmatch(value)
    if whole and whole.lastgroup == "uuid":
        return _uuid(value, given)
    return "disk-" + given.digits("disk name", value)[:12]


def _host(value: str, given: Pseudonyms) -> str:
    whole = _PATTERN.fullmatch(value)
    if whole and whole.lastgroup == "ip":
        return _ip(value, given)
    return "host-" + given.digits("host name", value)[:8]


def _at(value: str, given: Pseudonyms) -> str:
    user, host = value.split("@", 1)
    return f"user-{given.digits('user name', user)[:8]}@{_host(host, given)}"


def _authority(value: str, given: Pseudonyms) -> str:
    """``user:password@host:port`` of a URL."""
    user, at, rest = value.rpartition("@")
    host, colon, port = (rest, "", "") if rest.startswith("[") else rest.partition(":")
    hidden = given.hide("secret", user) + at if at else ""
    return hidden + (_PATTERN.sub(lambda match: _replace(match, given), host) if host.startswith("[") else _host(host, given)) + colon + port


def _secret(value: str, given: Pseudonyms) -> str:
    """``KEY=…``: no digits of it, since a short password could be guessed from them."""
    key = _KEY.match(value)
    end = key.end() if key else 0
    return value[:end] + given.hide("secret", value[end:])


def _identifier(value: str, given: Pseudonyms) -> str:
    whole = _PATTERN.fullmatch(value)
    return _FORMS[whole.lastgroup](value, given) if whole and whole.lastgroup in ("uuid", "id") else _disk(value, given)


def _volume(value: str, given: Pseudonyms) -> str:
    """GROUP/VOLUME by the name that device mapper gives it."""
    return _disk("-".join(part.replace("-", "--") for part in value.split("/")), given)


_FORMS: dict[str, Callable[[str, Pseudonyms], str]] = {
    "secret": _secret,
    "invalid": lambda value, given: given.hide("secret", value),
    "authority": _authority,
    "disk": _disk,
    "uuid": _uuid,
    "id": lambda value, given: given.digits("UUID", value.lower())[:32],
    "wwid": lambda value, given: "disk-" + given.digits("disk name", value)[:12],
    "wwn": lambda value, given: "disk-" + given.digits("disk name", value)[:12],
    "iqn": lambda value, given: value[:4] + given.digits("disk name", value)[:12],
    "octets": _octets,
    "dotted": _dotted,
    "bare": _bare,
    "ip": _ip,
    "ip6": _ip,
    "serial": serial,
    "numbered": serial,
    "identifier": _identifier,
    "naa": lambda value, given: "disk-" + given.digits("disk name", value)[:12],
    "mapped": _disk,
    "named": _disk,
    "volume": _volume,
    "pool": _disk,
    "vm": lambda value, given: "vm-" + given.digits("VM name", value)[:8],
    "instance": lambda value, given: "instance-" + given.digits("unit instance", value)[:8],
    "who": lambda value, given: "user-" + given.digits("user name", value)[:8],
    "user": lambda value, given: "user-" + given.digits("user name", value)[:8],
    "host": _host,
    "at": _at,
}
