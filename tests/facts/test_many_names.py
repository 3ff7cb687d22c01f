"""Thousands of names and serial numbers are looked for in a time that does not grow with them: the same is found as by asking for each in turn."""

from __future__ import annotations

import random
import re

import pytest

from wizard.arch.pci import USER_READABLE
from wizard.facts import configbytes
from wizard.facts.identifying import Cleaner
from wizard.facts.pseudonym import Pseudonyms, Secrets

LETTERS = "abAB01-_. xé"


def word(source: random.Random, shortest: int, letters: str = "abAB01-.é") -> str:
    return "".join(source.choice(letters) for _ in range(source.randrange(shortest, shortest + 5)))


@pytest.mark.parametrize("seed", range(4))
def test_names_in_a_text_are_those_of_one_pattern_with_each_of_them(seed: int) -> None:
    """Longest first, from left to right, at the beginnings and ends of words."""
    source = random.Random(seed)
    changed = 0
    for _ in range(250):
        secrets = Secrets(
            hosts=tuple(word(source, 2) for _ in range(4)),
            users=tuple(word(source, 1) for _ in range(3)),
            serials=tuple(word(source, 2) for _ in range(6)),
            macs=("00:11:22:aa:bb:cc",),
        )
        cleaner = Cleaner(secrets, Pseudonyms(b"k" * 32))
        spellings = cleaner._spellings
        alternatives = "|".join(re.escape(one) for one in sorted(spellings, key=lambda one: (-len(one), one)))
        plain = re.compile(rf"(?:(?<![^\W_])(?<!\.)|(?<=\b0x))(?:{alternatives})(?![^\W_])", re.IGNORECASE)
        known = [*secrets.hosts, *secrets.users, *secrets.serials, "0x001122AABBCC", "00 11 22 aa bb cc"]
        for _ in range(8):
            text = "".join(source.choice((word(source, 1, LETTERS), source.choice(known), source.choice(known).upper(), "_", " ")) for _ in range(9))
            expected = plain.sub(lambda match: spellings[match[0].lower()](), text)  # noqa: B023 (used at once)
            assert cleaner.names(text) == expected, (text, sorted(spellings))
            changed += expected != text
    assert changed > 500


@pytest.mark.parametrize("seed", range(4))
def test_texts_in_configuration_space_are_those_of_a_search_for_each(seed: int) -> None:
    """One after the other in their order, in what those before it have left."""
    source = random.Random(seed)
    blanked = 0
    for _ in range(150):
        forms = {word(source, 6, "abA1-").encode() for _ in range(12)}
        data = bytearray(bytes(USER_READABLE))
        while len(data) < 0x100:
            data += source.choice((bytes([source.randrange(256)]), source.choice(sorted(forms)), word(source, 1, "abA1-").encode()))
        plain = bytearray(data)
        for known in sorted(forms):
            at = plain.find(known, USER_READABLE)
            while at >= 0:
                plain[at : at + len(known)] = bytes(len(known))
                at = plain.find(known, at + len(known))
        quick = bytearray(data)
        for known in configbytes.Known(forms).within(quick, USER_READABLE):
            at = quick.find(known, USER_READABLE)
            while at >= 0:
                quick[at : at + len(known)] = bytes(len(known))
                at = quick.find(known, at + len(known))
        assert quick == plain
        blanked += plain != data
    assert blanked > 100
