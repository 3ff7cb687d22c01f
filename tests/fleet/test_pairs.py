"""Which function of B is which of A: places that are asked without a look at everything in them choose as one that looks at all."""

from __future__ import annotations

import random

from wizard.fleet.diff.pairs import _One, _Place


def plain(order: list[tuple[str, str | None]], name: str, serial: str | None) -> str | None:
    """The first that may be the same function, the one of the same name before all: two serial numbers that differ are two functions."""
    same = [other for other, number in order if not (serial and number and serial != number)]
    return None if not same else name if name in same else same[0]


def test_a_place_chooses_as_a_look_at_all_of_it() -> None:
    dice = random.Random(2311)
    chosen = 0
    for _ in range(300):
        order = [(f"f{number}", dice.choice((None, "", "s1", "s2", "s3"))) for number in dice.sample(range(20), dice.randrange(1, 12))]
        alone = _One(*order[0])
        place: _One | _Place = alone
        if len(order) > 1:
            place = _Place()
            alone.into(place)
            for name, serial in order[1:]:
                place.put(name, serial)
        for _ in range(14):
            name, serial = f"f{dice.randrange(20)}", dice.choice((None, "", "s1", "s2", "s3", "s4"))
            want = plain(order, name, serial)
            assert place.take(name, serial) == want
            order = [one for one in order if one[0] != want]
            chosen += want is not None
    assert chosen > 1000
