# SPDX-License-Identifier: Apache-2.0
"""Conditions that are too long to be looked at: content is sent, and nothing is changed."""

from __future__ import annotations

import pytest
from buildset_registry.errors import PreconditionFailed
from buildset_registry.http.conditional import check_change, not_modified, range_applies
from buildset_registry.oci.digest import Digest

DIGEST = Digest.of(b"content")
OTHER = Digest.of(b"other")
#: A hundred tags, the last of which is the content's; and so many that nobody looks at them.
LONG = f'"{OTHER}",' * 99 + f'"{DIGEST}"'
TOO_LONG = f'"{OTHER}",' * 200 + f'"{DIGEST}"'


def test_a_long_list_of_tags_is_looked_at_to_its_end() -> None:
    """As many as a client may have of one image."""
    assert not_modified({"if-none-match": LONG}, DIGEST)
    assert range_applies({"if-range": LONG}, DIGEST)
    check_change({"if-match": LONG}, DIGEST)


def test_a_list_that_is_too_long_has_no_tag() -> None:
    """Who has the content gets it again (RFC 9110, 13.1.2), and whole (13.1.5)."""
    assert not not_modified({"if-none-match": TOO_LONG}, DIGEST)
    assert not range_applies({"if-range": TOO_LONG}, DIGEST)
    with pytest.raises(PreconditionFailed):
        not_modified({"if-match": TOO_LONG}, DIGEST)


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("current", [DIGEST, None])
def test_nothing_is_changed_on_a_condition_that_is_too_long(
    name: str, current: Digest | None
) -> None:
    """Whoever has a condition means it."""
    with pytest.raises(PreconditionFailed, match=f"^{name} has more than 8192 characters"):
        check_change({name.lower(): TOO_LONG}, current)
