"""Redaction: Facts without serial numbers, addresses, UUIDs, host and user names.

Each is replaced by its pseudonym (``wizard.facts.pseudonym``) wherever it stands: in its own field, in the bytes of the
Device Serial Number capability, in log lines, command lines and details. The same value has the same pseudonym in all
of them. docs/snapshot.md says how a shell script comes to the same one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable
from functools import partial

import msgspec

from wizard.arch.pci import ExtCap
from wizard.facts.capabilities import EXTENDED, capabilities
from wizard.facts.model import Facts, Moment, PciFunction
from wizard.facts.moment import set_apart
from wizard.facts.pseudonym import Pseudonyms, Secrets, group, host_pseudonym, secrets_of

_HEX2 = "[0-9A-Fa-f]{2}"
# Repetitions are bounded, or begin where nothing of their kind stands before: a line of a megabyte must not take a minute.
_PATTERN = re.compile(
    "|".join(
        (
            r"(?<![\w-])(?P<secret>(?:\w*(?:password|passwd|secret|token|passphrase))=\S+)",
            r"(?P<credentials>(?<=://)[^/\s@]+(?=@))",
            r"(?:/dev/disk/by-(?:id|uuid|label|partuuid|partlabel)/|\b(?:PART)?(?:UUID|LABEL)=)(?P<disk>[^\s,]+)",
            r"(?<![0-9A-Fa-f])(?P<uuid>[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12})(?![0-9A-Fa-f])",
            r"(?<!\w)(?P<id>[0-9a-f]{32})(?!\w)",
            rf"(?<![\w:.-])(?P<eui>(?:{_HEX2}[:-]){{7}}{_HEX2})(?![\w:-])",
            rf"(?:(?<![\w:.-])|(?<=BOOTIF=01-))(?P<mac>(?:{_HEX2}[:-]){{5}}{_HEX2})(?![\w:-])",
            r"(?<!\w)(?:enx|wlx|wwx)(?P<named>[0-9a-f]{12})(?!\w)",
            r"(?<![\w.])(?P<ip>(?:\d{1,3}\.){3}\d{1,3})(?!\w|\.\d)",
            r"(?<![\w.:])(?P<ip6>[0-9A-Fa-f:]{0,39}:[0-9A-Fa-f:]{0,39}:[0-9A-Fa-f:.]{0,45})(?![\w:])",
            r"(?i:\bserial(?:[ _-]?(?:number|no))?\s*[:=#]\s*|\bS/N\s*[:=]?\s*)(?P<serial>[^\s,;]+)",
            r"(?<=/home/)(?P<user>[^/\s,]+)",
            r"(?<![\w.+-])(?P<at>[\w.+-]{1,64}@(?!(?:0x)?[0-9A-Fa-f]+(?![\w.-]))[\w.-]+\w)",  # not ITS@0x8080000, not serial@9000000
        )
    )
)


def redact(facts: Facts, secrets: Secrets) -> tuple[Facts, tuple[str, ...]]:
    """(Facts that can be given away, what was replaced: ``("1 host name", "2 MAC addresses")``).

    Redacted Facts come back as they are.
    """
    if facts.redacted:
        return facts, ()
    given = Pseudonyms(secrets.key)
    clean = _cleaner(secrets, given)
    replace = msgspec.structs.replace
    kernel = facts.kernel
    moment = facts.moment
    identity = facts.identity
    identity = replace(identity, vendor=_cleaned(clean, identity.vendor), product=_cleaned(clean, identity.product), digest=None)
    identity = replace(identity, board=_cleaned(clean, identity.board))
    if secrets.key is not None:
        identity = replace(identity, host=host_pseudonym(secrets.key))
    done = replace(
        facts,
        redacted=True,
        identity=identity,
        kernel=replace(kernel, version=clean(kernel.version), cmdline=_cleaned(clean, kernel.cmdline)),
        functions=tuple(_function(function, clean, given) for function in facts.functions),
        log=tuple(map(clean, facts.log)),
        in_use=tuple(replace(use, detail=clean(use.detail)) for use in facts.in_use),
        programs=tuple(replace(program, path=clean(program.path), error=_cleaned(clean, program.error)) for program in facts.programs),
        firmware=tuple(
            replace(
                image, descriptor=clean(image.descriptor), executable=clean(image.executable), nvram_template=_cleaned(clean, image.nvram_template)
            )
            for image in facts.firmware
        ),
        policy=tuple(replace(rule, reason=clean(rule.reason)) for rule in facts.policy),
        unread={clean(path): clean(reason) for path, reason in facts.unread.items()},
        moment=replace(
            moment,
            log=tuple(map(clean, moment.log)),
            open_devices={path: clean(holder) for path, holder in moment.open_devices.items()},
            session=tuple(replace(use, detail=clean(use.detail)) for use in moment.session),
        ),
    )
    return done, given.report()


def _cleaned(clean: Callable[[str], str], text: str | None) -> str | None:
    return None if text is None else clean(text)


def _function(function: PciFunction, clean: Callable[[str], str], given: Pseudonyms) -> PciFunction:
    changes: dict[str, object] = {}
    if function.net and (net := tuple(map(clean, function.net))) != function.net:
        changes["net"] = net
    if function.serial_number:
        changes["serial_number"] = _serial(function.serial_number, given)
    if (config := _config(function.config, given)) != function.config:
        changes["config"] = config
    return msgspec.structs.replace(function, **changes) if changes else function


def _config(config: str, given: Pseudonyms) -> str:
    # The capability holds an EUI-64 as two little-endian words, low first; people and sysfs write it high byte first (7.9.3).
    if len(config) <= 0x200:  # two digits a byte: no extended space
        return config
    data = bytearray.fromhex(config)
    for number, offset in capabilities(bytes(data)):
        if number == EXTENDED + ExtCap.DSN:
            data.extend(bytes(max(0, offset + 12 - len(data))))
            serial = bytes(data[offset + 4 : offset + 12])
            if any(serial):
                text = group(serial[::-1].hex(), "-")
                data[offset + 4 : offset + 12] = bytes.fromhex(_serial(text, given).replace("-", ""))[::-1]
    return bytes(data).rstrip(b"\0").hex()


_EUI = re.compile(rf"(?:{_HEX2}[:-]){{7}}{_HEX2}")


def _serial(text: str, given: Pseudonyms) -> str:
    if _EUI.fullmatch(text):
        return group(given.digits("serial number", text.lower().replace(":", "-"))[:16], "-")
    return "serial-" + given.digits("serial number", text)[:12]


def _cleaner(secrets: Secrets, given: Pseudonyms) -> Callable[[str], str]:
    """A function that replaces in a text whatever must not be told."""
    names = dict.fromkeys(secrets.users, ("user name", "user-")) | dict.fromkeys(secrets.hosts, ("host name", "host-"))
    spellings = {spelling: name for name in names for spelling in (name, name.replace("-", "--"))}  # device mapper doubles hyphens
    words = None
    if spellings:
        alternatives = "|".join(re.escape(spelling) for spelling in sorted(spellings, key=lambda s: (-len(s), s)))
        words = re.compile(rf"(?<![\w.])(?:{alternatives})(?!\w)")
    find = partial(_PATTERN.sub, lambda match: _replace(match, given))

    def name(match: re.Match[str]) -> str:
        kind, prefix = names[spellings[match[0]]]
        return prefix + given.digits(kind, spellings[match[0]])[:8]

    def clean(text: str) -> str:
        text = find(text)
        return words.sub(name, text) if words else text

    return clean


def _replace(match: re.Match[str], given: Pseudonyms) -> str:
    kind = match.lastgroup or ""
    value = match[kind]
    before = match[0][: match.start(kind) - match.start()]
    return before + _FORMS[kind](value, given)


def _uuid(value: str, given: Pseudonyms) -> str:
    digits = given.digits("UUID", value.lower())
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def _mac(value: str, given: Pseudonyms) -> str:
    separator = value[2]
    # 02: locally administered, so that no pseudonym is a vendor's.
    return group("02" + given.digits("MAC address", value.lower().replace("-", ":"))[:10], separator)


def _ip(value: str, given: Pseudonyms) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return value
    if address.is_loopback or address.is_unspecified or str(address).startswith("255."):
        return value
    return "ip-" + given.digits("IP address", str(address))[:8]


def _disk(value: str, given: Pseudonyms) -> str:
    whole = _PATTERN.fullmatch(value)
    if whole and whole.lastgroup == "uuid":
        return _uuid(value, given)
    return "disk-" + given.digits("disk name", value)[:12]


def _at(value: str, given: Pseudonyms) -> str:
    user, host = value.split("@", 1)
    return f"user-{given.digits('user name', user)[:8]}@host-{given.digits('host name', host)[:8]}"


_FORMS: dict[str, Callable[[str, Pseudonyms], str]] = {
    "secret": lambda value, given: value.split("=")[0] + "=redacted-" + given.digits("secret", value.split("=", 1)[1])[:8],
    "credentials": lambda value, given: "user-" + given.digits("secret", value)[:8],
    "disk": _disk,
    "uuid": _uuid,
    "id": lambda value, given: given.digits("UUID", value)[:32],
    "eui": lambda value, given: _serial(value, given),
    "mac": _mac,
    "named": lambda value, given: _mac(group(value, ":"), given).replace(":", ""),
    "ip": _ip,
    "ip6": _ip,
    "serial": _serial,
    "user": lambda value, given: "user-" + given.digits("user name", value)[:8],
    "at": _at,
}


def digest(facts: Facts) -> str:
    """``sha256:…`` over the redacted Facts: which state of which host a plan was made for.

    Without what moves, and without who recorded it and whether iommufd was asked: the host is the same.
    """
    if facts.identity.digest:
        return facts.identity.digest
    if not facts.redacted:
        from wizard.facts.tree import DirectoryTree

        facts, _ = redact(facts, secrets_of(DirectoryTree("/", live=True), live=True) if facts.origin == "live" else Secrets())
    stable = msgspec.structs.replace(set_apart(facts), moment=Moment(), tool="", origin="", hw_info=())
    return "sha256:" + hashlib.sha256(msgspec.json.encode(stable, order="deterministic")).hexdigest()


def for_writing(facts: Facts, secrets: Secrets, *, redacted: bool = True) -> tuple[Facts, tuple[str, ...]]:
    """What ``record`` writes: redacted Facts and what was replaced; or raw ones that carry the digest of the redacted."""
    safe, report = redact(facts, secrets)
    if redacted or facts.redacted:
        return safe, report
    return msgspec.structs.replace(facts, identity=msgspec.structs.replace(facts.identity, host=safe.identity.host, digest=digest(safe))), ()
