# SPDX-License-Identifier: Apache-2.0
"""Lists of what refers to a manifest, as upstreams give them; pure.

The distribution specification, section "Listing Referrers".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from buildset_registry.errors import ManifestHidden, ManifestInvalid, ManifestUnknown
from buildset_registry.oci.descriptor import OCI_INDEX, Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest, stored_media_type
from buildset_registry.upstream.hosts import Question

_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """A part of a list, and the address of what follows."""

    items: tuple[Descriptor, ...]
    link: str | None

    @classmethod
    def read(cls, raw: bytes, headers: Mapping[str, str]) -> ReferrersPage | None:
        """Read an answer; None where it is no list: some registries answer so to what they
        do not know."""
        if stored_media_type(raw) != OCI_INDEX:
            return None
        try:
            index = Manifest.parse(raw)
        except ManifestInvalid:
            return None
        match = _NEXT.search(headers.get("Link", ""))
        return cls(index.manifests, match[1] if match else None)


def first(subject: Digest) -> Question:
    """Return the question for a list's first page."""
    return _wanted(f"referrers/{subject}")


def following(repository: str, asked: Question, page: ReferrersPage) -> Question | None:
    """Return the question for the next page; a link out of the repository is not followed."""
    if page.link is None:
        return None
    url = urljoin(f"{repository}/{asked.path}", page.link)
    inside = url.startswith(f"{repository}/referrers/")
    return _wanted(url.removeprefix(f"{repository}/")) if inside else None


def _wanted(path: str) -> Question:
    return Question(path, ManifestUnknown, ManifestHidden, {"Accept": OCI_INDEX})
