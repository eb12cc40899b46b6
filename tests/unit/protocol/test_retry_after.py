# SPDX-License-Identifier: Apache-2.0
"""How long servers ask to be left alone."""

from __future__ import annotations

import pytest
from buildset_registry.protocol.retry_after import pause_of


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Thu, 01 Jan 1970 00:03:00 GMT", 80),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("\u0661", None),
        ("", None),
        (None, None),
    ],
)
def test_both_forms_are_known(header: str | None, seconds: float | None) -> None:
    """Seconds, or a date, here 100 seconds after the epoch; what is neither asks for nothing."""
    assert pause_of(header, 100.0) == seconds
