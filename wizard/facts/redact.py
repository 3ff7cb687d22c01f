"""Redaction: Facts without serial numbers, addresses, UUIDs, host and user names.

Each is replaced by its pseudonym (``wizard.facts.pseudonym``) wherever it stands: in its own field, in the bytes of the
Device Serial Number capability, in log lines, command lines and details, where ``wizard.facts.telltale`` finds it. The same
value has the same pseudonym in all of them. docs/snapshot.md says how a shell script comes to the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from wizard.arch.pci import STANDARD_SPACE, Cap, ExtCap
from wizard.facts.capabilities import EXTENDED, capabilities
from wizard.facts.model import Facts, Moment, PciFunction
from wizard.facts.moment import set_apart
from wizard.facts.pseudonym import Pseudonyms, Secrets, group, host_pseudonym, secrets_of
from wizard.facts.telltale import cleaner, serial


def redact(facts: Facts, secrets: Secrets) -> tuple[Facts, tuple[str, ...]]:
    """(Facts that can be given away, what was replaced: ``("1 host name", "2 MAC addresses")``).

    Redacted Facts come back as they are.
    """
    if facts.redacted:
        return facts, ()
    given = Pseudonyms(secrets.key)
    clean = cleaner(_also_of(facts, secrets), given)
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
        changes["serial_number"] = serial(function.serial_number, given)
    if (config := _config(function.config, given)) != function.config:
        changes["config"] = config
    return msgspec.structs.replace(function, **changes) if changes else function


def _config(config: str, given: Pseudonyms) -> str:
    data = bytearray.fromhex(config)
    for number, offset in capabilities(bytes(data)):
        if number == Cap.VPD:  # its data register holds four bytes of a serial number, when it was the last that was read (7.9.18)
            data[offset + 2 : offset + 8] = bytes(max(0, min(offset + 8, len(data)) - offset - 2))
        elif number == EXTENDED + ExtCap.DSN:
            # An EUI-64 as two little-endian words, low first; people and sysfs write it high byte first (7.9.3).
            data.extend(bytes(max(0, offset + 12 - len(data))))
            told = bytes(data[offset + 4 : offset + 12])
            if any(told):
                text = group(told[::-1].hex(), "-")
                data[offset + 4 : offset + 12] = bytes.fromhex(serial(text, given).replace("-", ""))[::-1]
    return bytes(data).rstrip(b"\0").hex()


def _also_of(facts: Facts, secrets: Secrets) -> Secrets:
    """With what the facts themselves say of the parts: a serial number that a capability holds may stand in a log line in another form."""
    serials = {function.serial_number for function in facts.functions if function.serial_number}
    for function in facts.functions:
        data = bytes.fromhex(function.config) if len(function.config) > 2 * STANDARD_SPACE else b""
        for number, offset in capabilities(data) if data else ():
            if number == EXTENDED + ExtCap.DSN and any(told := data[offset + 4 : offset + 12].ljust(8, b"\0")):
                serials.add(group(told[::-1].hex(), "-"))
    return msgspec.structs.replace(secrets, serials=tuple(sorted(serials | set(secrets.serials))))


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
