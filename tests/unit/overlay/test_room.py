# SPDX-License-Identifier: Apache-2.0
"""The room in the overlay: what ended goes, and nobody takes all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from buildset_registry.errors import StorageFull
from buildset_registry.overlay.document import FILE, Overlay
from buildset_registry.overlay.handing import hand_over
from buildset_registry.overlay.room import client_key, fitting, without_ended_tokens

from tests.unit.overlay.test_document import IMAGE, SECRET, handed, text

NOW, DAY = 1_796_000_000.0, 86_400.0
PEM = f"-----BEGIN CERTIFICATE-----\n{'A' * 1500}\n-----END CERTIFICATE-----\n"


def overlay(tag: str, expires: float, number: int = 1, by: str = "") -> Overlay:
    """Return some images that were handed over together."""
    registry = {"host": "intermediate.example.com:5000", "cert": PEM}
    images = {f"quay.io/org/app:{tag}-{one}": IMAGE for one in range(number)}
    more = {"registry": registry, "expires": expires, "token": tag * 100}
    found = Overlay.parse(text(handed(images, **more)), "test")
    kept = {
        name: replace(image, holder=replace(image.holder, by=by))
        for name, image in found.images.items()
    }
    return Overlay(kept, found.registries)


def test_an_ended_token_goes_and_its_images_stay(tmp_path: Path) -> None:
    """In a fifth of the bytes, whoever had how many; what is handed over next finds room."""
    full = Overlay()
    for number in range(50):
        full = full.with_more(overlay(f"build{number}", NOW - 400 * DAY))
    (tmp_path / FILE).write_text(full.dump())
    hand_over(tmp_path, overlay("living", NOW + 400 * DAY))
    kept = Overlay.load(tmp_path)
    assert len(kept.images) == 51
    assert sum(bool(one.holder.token) for one in kept.images.values()) == 1
    assert len(kept.registries) == 1
    assert (tmp_path / FILE).stat().st_size < len(full.dump()) / 5
    assert Overlay.parse(kept.dump(), "again", own=True) == kept


def test_clocks_may_differ() -> None:
    """A token is kept for a while after it has ended here."""
    young, old = (overlay("app", NOW - seconds) for seconds in (600, 7200))
    assert without_ended_tokens(young, NOW) == young
    assert without_ended_tokens(old, NOW) != old


def test_what_is_handed_over_says_nothing_of_ended_tokens_or_of_who_does_it() -> None:
    """That is in the registry's own file alone."""
    given = text(handed({}, by="somebody", token=SECRET)).replace("}", ', "ended": [1]}', 1)
    assert Overlay.parse(given, "a request").images == {}
    named = Overlay.parse(text(handed(by="somebody")), "a request")
    assert {one.holder.by for one in named.images.values()} == {""}


def test_a_client_leaves_as_much_to_all_others_as_it_takes() -> None:
    """However many fill it up one after the other, the next one finds room."""
    most, held, refused = 200_000, Overlay(), []
    for client in ("first", "second", "third"):
        for number in range(100):
            more = held.with_more(overlay(f"{client}-{number}", NOW + DAY, 10, client))
            try:
                held = fitting(more, client, most, NOW)
            except StorageFull as error:
                refused.append(error.message)
                break
    assert len(refused) == 3
    for line in refused:
        assert line.startswith("there is no room for more images of other builds from this user:")
    shares = [
        sum(one.holder.by == client for one in held.images.values())
        for client in ("first", "second", "third")
    ]
    assert shares[0] > shares[1] > shares[2] > 0
    assert len(held.dump()) < most


def test_what_ended_long_ago_makes_room_and_what_ended_lately_does_not() -> None:
    """A job that was handed it may still run; the oldest go first, and no more than have to."""
    held = Overlay()
    for number in range(20):
        ended = overlay(f"old{number:02d}", NOW - (30 - number) * DAY, 50, client_key("a"))
        held = held.with_more(ended)
    held = without_ended_tokens(held.with_more(overlay("lately", NOW - DAY, 50, "b")), NOW)
    more = held.with_more(overlay("new", NOW + DAY, 50, "c"))
    most = len(more.dump())
    assert fitting(more, "c", 2 * most, NOW) == more
    some = fitting(more, "c", most, NOW)
    gone = {name.tag for name in more.images.keys() - some.images.keys()}
    assert {tag.partition("-")[0] for tag in gone} == {"old00", "old01"}
    with pytest.raises(StorageFull, match="no room for more images of other builds"):
        fitting(more, "c", 20_000, NOW)
