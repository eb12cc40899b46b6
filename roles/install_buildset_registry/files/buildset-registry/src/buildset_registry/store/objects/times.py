# SPDX-License-Identifier: Apache-2.0
"""The times that lists tell, as ISO 8601 has them; pure.

One that cannot be read is a failure: a collection would take what is new for old, and remove it.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

from buildset_registry.store.objects.dialect import ObjectFailure

#: Python 3.10 reads fractions of three or six digits alone; services write any number.
_FRACTION = re.compile(r"\.(\d+)")


def list_time(text: str) -> float:
    """Return a time in seconds since the epoch, to a microsecond; one without a zone is of UTC."""
    exact = _FRACTION.sub(lambda match: f".{match[1]:0<6.6}", text.strip())
    try:
        found = datetime.fromisoformat(exact.replace("Z", "+00:00"))
    except ValueError:
        raise unreadable(text) from None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def end_of_second(text: str) -> float:
    """Return the end of the second in which a time is: headers tell no more, and lists do."""
    return float(int(list_time(text)) + 1)


def unreadable(text: str) -> ObjectFailure:
    """Return the failure of a list with a time that is none."""
    told = f"the time {text[:40]!r}, which cannot be read" if text else "no time"
    return ObjectFailure(f"the object store lists an object with {told}")
