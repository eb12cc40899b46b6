# SPDX-License-Identifier: Apache-2.0
"""Conditional requests (RFC 9110, section 13): the entity tag of content is its digest.

Content has no date, so what compares dates (``If-Modified-Since``) is ignored, as the RFC says.
"""

from __future__ import annotations

from collections.abc import Mapping

from buildset_registry.errors import PreconditionFailed
from buildset_registry.oci.digest import Digest

#: Characters of a list of entity tags that is looked at: a hundred of them. A head may have a
#: mebibyte, and nobody else has a turn while it is looked at.
_LONGEST = 8 * 1024


def entity_tag(digest: Digest | str) -> str:
    return f'"{digest}"'


def conditional(headers: Mapping[str, str]) -> bool:
    """Tell whether there is a condition."""
    return "if-match" in headers or "if-none-match" in headers


def not_modified(headers: Mapping[str, str], digest: Digest) -> bool:
    """Tell whether the client of a GET or a HEAD has the content already.

    ``PreconditionFailed`` where it wants other content than there is, by ``If-Match``.
    """
    wanted = headers.get("if-match")
    if wanted is not None and not _lists(wanted, digest, weakly=False):
        raise PreconditionFailed(f"the content is {digest}, not what If-Match names")
    known = headers.get("if-none-match")
    # The content may be sent to whoever has it, so a longer list counts as none.
    return known is not None and _short(known) and _lists(known, digest, weakly=True)


def check_change(headers: Mapping[str, str], current: Digest | None) -> None:
    """Refuse a PUT or a DELETE of what is ``current`` by ``PreconditionFailed``.

    ``If-None-Match: *`` makes a tag that nobody overwrites, ``If-Match`` moves it from the content
    that the client saw and from no other.
    """
    wanted, unwanted = headers.get("if-match"), headers.get("if-none-match")
    for name in ("If-Match", "If-None-Match"):
        if not _short(headers.get(name.lower(), "")):
            raise PreconditionFailed(f"{name} has more than {_LONGEST} characters; name fewer tags")
    here = f"there is {current or 'nothing'} now"
    if wanted is not None and not _lists(wanted, current, weakly=False):
        raise PreconditionFailed(f"{here}, not what If-Match names")
    if unwanted is not None and _lists(unwanted, current, weakly=True):
        raise PreconditionFailed(f"{here}, which If-None-Match rules out")


def range_applies(headers: Mapping[str, str], digest: Digest) -> bool:
    """Tell whether ``Range`` counts: not where ``If-Range`` names other content, or a date."""
    known = headers.get("if-range")
    return known is None or (known.strip() != "*" and _lists(known, digest, weakly=False))


def _short(tags: str) -> bool:
    return len(tags) <= _LONGEST


def _lists(tags: str, digest: Digest | None, *, weakly: bool) -> bool:
    """Tell whether a list of entity tags has the digest's; some clients leave the quotes out.

    One that is too long has none.
    """
    if digest is None or not _short(tags):
        return False
    for tag in map(str.strip, tags.split(",")):
        opaque = tag.removeprefix("W/") if weakly else tag
        if tag == "*" or opaque in (entity_tag(digest), str(digest)):
            return True
    return False
