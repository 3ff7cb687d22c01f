"""What in a text tells whose machine it is, and the form of the pseudonym that takes its place.

Two ways of knowing: by its form (a MAC address, a UUID, ``serial=…``), and by what this host is known to have (``Secrets``:
its names, its users, the serial numbers and MAC addresses of its parts), which is found in any spelling. What only looks like
one of these stays as it is: addresses of functions and registers, versions, times.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import partial

from wizard.facts.pseudonym import Pseudonyms, Secrets, group

_HEX2, _HEX4 = "[0-9A-Fa-f]{2}", "[0-9A-Fa-f]{4}"
_HYPHEN = r"(?:-|\\x2d)"  # as systemd escapes it in the names of units
_MAC_KEY = r"(?i:\b(?:mac|hw|ether|perm)[ _-]?(?:addr(?:ess)?)?\s*[:=]?\s*)"
# Repetitions are bounded, or begin where nothing of their kind stands before: a line of a megabyte must not take a minute.
_PATTERN = re.compile(
    "|".join(
        (
            r"(?<![\w-])(?P<secret>(?:\w*(?:password|passwd|secret|token|passphrase|username))=\S+)",
            r"(?<=://)(?P<authority>[^/\s]+)",
            r"(?:/dev/disk/by-(?:id|uuid|label|partuuid|partlabel)/|\b(?:PART)?(?:UUID|LABEL)=)(?P<disk>[^\s,]+)",
            rf"(?:(?<![0-9A-Fa-f])|(?<=\\x2d))(?P<uuid>[0-9A-Fa-f]{{8}}{_HYPHEN}(?:{_HEX4}{_HYPHEN}){{3}}[0-9A-Fa-f]{{12}})(?![0-9A-Fa-f])",
            r"(?<!\w)(?P<id>[0-9A-Fa-f]{32})(?!\w)",
            r"(?<!\w)(?P<wwid>[23][0-9a-f]{16}(?:[0-9a-f]{16})?)(?!\w)",  # of multipath; no address has 17 digits
            r"(?<!\w)(?:(?:naa|eui|t10|nvme)\.|wwn-(?:0x)?|(?i:ww[pn]?n)[ :=]{1,3}(?:0x)?)(?P<wwn>\w[\w.-]{5,})",
            r"(?<!\w)(?P<iqn>[in]qn\.\d{4}-\d{2}\.[\w.:-]+)",
            rf"(?<![0-9A-Za-z])(?P<octets>{_HEX2}(?P<sep>[:-]){_HEX2}(?:(?P=sep){_HEX2}){{4,}})(?![0-9A-Za-z])",
            rf"(?<![\w.])(?P<dotted>{_HEX4}\.{_HEX4}\.{_HEX4})(?![\w.])",
            rf"(?:(?<!\w)(?:enx|wlx|wwx)|{_MAC_KEY})(?P<bare>[0-9A-Fa-f]{{12}})(?!\w)",
            r"(?<![\w.])(?P<ip>(?:\d{1,3}\.){3}\d{1,3})(?!\w|\.\d)",
            r"(?:(?<![\w.:])|(?<=\w)(?=:))(?P<ip6>[0-9A-Fa-f:]{0,39}:[0-9A-Fa-f:]{0,39}:[0-9A-Fa-f:.]{0,45})(?!\w)",
            r"""(?i:\bserial(?:[ _-]?(?:number|no))?["']?\s*[:=#]\s*["']?|\bS/?N["']?\s*[:=]\s*["']?|\bS/N\s+)(?P<serial>[^\s,;"']+)""",
            r"(?:/home/|/media/)(?P<user>[^/\s,]+)",
            r"(?i:\bhost(?:name)?=)(?P<host>[^\s,:/]+)",
            r"(?<![\w.+-])(?P<at>[\w.+-]{1,64}@(?!(?:0x)?[0-9A-Fa-f]+(?![\w.-]))[\w.-]+\w)",  # not ITS@0x8080000, not serial@9000000
        )
    )
)
_NAMED_BY_IP = re.compile(r"(?<!\w)(ip=(?:[^\s:]*:){4})([^\s:]+)")  # ip=<client>:<server>:<gateway>:<netmask>:<hostname>:… (nfsroot.rst)
_VERSION = re.compile(r"(?i)(?:\bv|\bver\.?|version|rev(?:ision)?\.?|release|firmware|fw)[\s:=]*\Z")
_EUI = re.compile(rf"(?:{_HEX2}[:-]){{7}}{_HEX2}")
_MAC = re.compile(rf"(?:{_HEX2}:){{5}}{_HEX2}")
_BOOTIF = ("01", 7)  # pxelinux: the hardware type of Ethernet, then the address


def cleaner(secrets: Secrets, given: Pseudonyms) -> Callable[[str], str]:
    """A function that replaces in a text whatever must not be told."""
    find = partial(_PATTERN.sub, lambda match: _replace(match, given))
    named_by_ip = partial(_NAMED_BY_IP.sub, lambda match: match[1] + _host(match[2], given))
    known = _of_this_host(secrets, given)

    def clean(text: str) -> str:
        return known(find(named_by_ip(text) if "ip=" in text else text))

    return clean


def serial(text: str, given: Pseudonyms) -> str:
    """The pseudonym of a serial number: an EUI-64's in its own form."""
    if _EUI.fullmatch(text):
        return group(given.digits("serial number", text.lower().replace(":", "-"))[:16], "-")
    return "serial-" + given.digits("serial number", text)[:12]


def _of_this_host(secrets: Secrets, given: Pseudonyms) -> Callable[[str], str]:
    spellings = dict(_spellings(secrets, given))
    if not spellings:
        return lambda text: text
    alternatives = "|".join(re.escape(spelling) for spelling in sorted(spellings, key=lambda s: (-len(s), s)))
    # An underscore ends a name: volume groups and disks are called vg_NAME, MODEL_SERIAL.
    words = re.compile(rf"(?<![^\W_])(?<!\.)(?:{alternatives})(?![^\W_])", re.IGNORECASE)
    return partial(words.sub, lambda match: spellings[match[0].lower()]())


def _spellings(secrets: Secrets, given: Pseudonyms) -> Iterator[tuple[str, Callable[[], str]]]:
    """(as it may be written, in lower case; its pseudonym in that form), which counts as given when it is asked for."""
    for kind, names in (("user", secrets.users), ("host", secrets.hosts)):
        for name in names:
            form = partial(lambda kind, name: f"{kind}-{given.digits(f'{kind} name', name)[:8]}", kind, name)
            yield name.lower(), form
            yield name.lower().replace("-", "--"), form  # device mapper doubles hyphens
    for number in secrets.serials:
        plain = partial(serial, number, given)
        yield number.lower(), plain
        yield re.sub(r"\s+", "_", number.lower()), plain  # udev's by-id names
        yield number.encode().hex(), plain  # the kernel's own name of an NVMe namespace: nvme.VENDOR-SERIAL-MODEL in hexadecimal
        if _EUI.fullmatch(number):  # a GUID of InfiniBand is the same number in two other forms
            digits = partial(lambda number: serial(number, given).replace("-", ""), number)
            yield number.lower().replace("-", "").replace(":", ""), digits
            yield group(re.sub("[:-]", "", number.lower()), ":", 4), partial(lambda digits: group(digits(), ":", 4), digits)
    for address in secrets.macs:
        if _MAC.fullmatch(address):
            yield address.lower().replace(":", ""), partial(lambda address: _octets(address, given).replace(":", ""), address)


def _replace(match: re.Match[str], given: Pseudonyms) -> str:
    kind = match.lastgroup or ""
    value = match[kind]
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
    hidden = "user-" + given.digits("secret", user)[:8] + at if at else ""
    return hidden + (_PATTERN.sub(lambda match: _replace(match, given), host) if host.startswith("[") else _host(host, given)) + colon + port


_FORMS: dict[str, Callable[[str, Pseudonyms], str]] = {
    "secret": lambda value, given: value.split("=")[0] + "=redacted-" + given.digits("secret", value.split("=", 1)[1])[:8],
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
    "user": lambda value, given: "user-" + given.digits("user name", value)[:8],
    "host": _host,
    "at": _at,
}
