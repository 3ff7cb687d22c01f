"""JSON that is made in pieces is, byte for byte, what is made at once."""

from __future__ import annotations

import random

import msgspec

from wizard.base.json import elements, within


def test_in_pieces_and_at_once() -> None:
    dice = random.Random(2325)
    odd = ['\n  "some": []', "]", "}, {", "\x7f\u2028", "", '"some": []']
    for _ in range(300):
        values: list[object] = [
            dice.choice((number, odd[number % 6], {"some": []}, [[]], {}, {"a": [{"some": odd}]})) for number in range(dice.randrange(9))
        ]
        before: dict[str, object] = {"first": odd, "inner": {"some": []}}
        after: dict[str, object] = {"last": [{"some": []}], "none": {}}
        whole = msgspec.json.format(msgspec.json.encode({**before, "some": values, **after}), indent=2)
        frame = msgspec.json.format(msgspec.json.encode({**before, "some": [], **after}), indent=2)
        cuts = sorted(dice.randrange(len(values) + 1) for _ in range(3))
        pieces = [elements(values[first:last]) for first, last in zip([0, *cuts], [*cuts, len(values)], strict=True)]
        assert b"".join(within(frame, "some", pieces)) == whole
