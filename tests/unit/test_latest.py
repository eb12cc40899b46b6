# SPDX-License-Identifier: Apache-2.0
"""What is remembered within bounds."""

from buildset_registry.latest import Latest


def test_what_was_set_longest_ago_goes() -> None:
    """Setting a value anew makes it the latest; asking for it does not."""
    latest: Latest[str, int] = Latest(2)
    latest["first"] = latest["second"] = 1
    latest["first"] = 2
    assert latest.get("second") == 1
    latest["third"] = 3
    assert list(latest.items()) == [("first", 2), ("third", 3)]
