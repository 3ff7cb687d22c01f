"""The administrator's policy file: what is known to be broken on this site, overruled per SMMU or function.

    [[rule]]
    subject = "smmu3.0x0000000012000000"     # or a function: "0009:01:00.0"
    accel = "off"
    reason = "returns stale translations under load, ticket 4711"

Read live from /etc/smmu-wizard/policy.toml, else only where ``--policy`` names it. Every mistake is an error: a rule that
is silently ignored would give away what somebody meant to keep.
"""

from __future__ import annotations

import re

from wizard.base import toml
from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.facts.model import Policy
from wizard.facts.tree import Tree

PATH = "etc/smmu-wizard/policy.toml"
LIMIT = 1 << 20  # bytes

_SUBJECT = re.compile(r"smmu3\.0x[0-9a-f]{16}|[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_KEYS = {"subject", "accel", "reason"}
_FIX = "Write rules as docs/snapshot.md shows them: [[rule]] with subject, accel and reason."


def load_policy(path: str) -> tuple[Policy, ...]:
    """The rules of a policy file; InputError names every mistake with its rule."""
    try:
        with open(path, "rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise InputError(f"The policy {visible(path)} can't be read: {error.strerror or error}.", "Name a file that you can read.") from error
    return parse_policy(data, path)


def policy_of(tree: Tree) -> tuple[Policy, ...]:
    """The rules of a live host's own policy file; none where there is no file."""
    data = tree.data(PATH, LIMIT + 1)
    if data is None:
        if "/" + PATH in tree.unread:
            raise InputError(f"The policy /{PATH} can't be read: {tree.unread['/' + PATH]}.", "Make it readable for everybody; it holds no secrets.")
        return ()
    return parse_policy(data, "/" + PATH)


def parse_policy(data: bytes, name: str) -> tuple[Policy, ...]:
    """Rules out of TOML bytes, in their order; InputError lists all that is wrong with them."""
    shown = visible(name)
    if len(data) > LIMIT:
        raise InputError(f"The policy {shown} holds more than 1 MiB.", _FIX)
    try:
        document = toml.loads(data.decode())
    except ValueError as error:
        raise InputError(f"The policy {shown} is no TOML: {visible(str(error))}.", _FIX) from error
    wrong = [f"{visible(key)} means nothing here" for key in document if key != "rule"]
    rules = document.get("rule", [])
    if not isinstance(rules, list):
        rules, wrong = [], [*wrong, "rule is no list: write [[rule]]"]
    found: dict[str, Policy] = {}
    for number, rule in enumerate(rules, 1):
        mistakes = _mistakes(rule) if isinstance(rule, dict) else ["it is no table"]
        if not mistakes and rule["subject"] in found:
            mistakes = [f"{rule['subject']} has a rule already"]
        wrong += [f"rule {number}: {mistake}" for mistake in mistakes]
        if not mistakes:
            found[rule["subject"]] = Policy(subject=rule["subject"], accel=rule["accel"], reason=rule["reason"].strip())
    if wrong:
        raise InputError(f"The policy {shown} has mistakes: {'; '.join(wrong[:20])}.", _FIX)
    return tuple(found.values())


def _mistakes(rule: dict[str, object]) -> list[str]:
    mistakes = [f"{visible(key)} means nothing here" for key in rule if key not in _KEYS]
    mistakes += [f"{key} is missing" for key in sorted(_KEYS - rule.keys())]
    subject, accel, reason = rule.get("subject"), rule.get("accel", "off"), rule.get("reason", "?")
    if subject is not None and not (isinstance(subject, str) and _SUBJECT.fullmatch(subject)):
        mistakes.append(f"subject {visible(str(subject))!r} is neither an SMMU (smmu3.0x and 16 digits) nor a function (DDDD:BB:DD.F)")
    if accel != "off":
        mistakes.append(f'accel can only be "off", not {visible(str(accel))!r}')
    if not isinstance(reason, str) or not reason.strip():
        mistakes.append("reason has to say why")
    return mistakes
