# SPDX-License-Identifier: Apache-2.0
"""Referrers of a manifest, as upstreams list them page by page; pure.

Source: the distribution specification, section "Listing Referrers".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from buildset_registry.errors import ManifestHidden, ManifestInvalid, ManifestUnknown
from buildset_registry.oci.descriptor import OCI_INDEX, Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest, stored_media_type
from buildset_registry.protocol.links import next_link
from buildset_registry.upstream.hosts import RepositoryRequest


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """A part of a list, and the address of the next one."""

    items: tuple[Descriptor, ...]
    link: str | None
    length: int
    """The bytes of the answer."""

    @classmethod
    def read(cls, raw: bytes, headers: Mapping[str, str], subject: Digest) -> ReferrersPage | None:
        """Read an answer; None where it is no list: some registries answer so to what they
        do not know, and some by the subject itself."""
        if stored_media_type(raw) != OCI_INDEX or Digest.of(raw, subject.algorithm) == subject:
            return None
        try:
            index = Manifest.parse(raw, strict=False)
        except ManifestInvalid:
            return None
        return cls(index.manifests, next_link(headers.get("Link")), len(raw))


def first_page(subject: Digest) -> RepositoryRequest:
    """Return the request for a list's first page."""
    return _page_request(f"referrers/{subject}")


def next_page(url: str, page: ReferrersPage) -> RepositoryRequest | None:
    """Return the request for the page after the one at ``url``, where a redirect may have led to;
    a link out of the repository there is not followed."""
    if page.link is None:
        return None
    repository, separator, _subject = url.partition("?")[0].rpartition("/referrers/")
    target = urljoin(url, page.link)
    inside = bool(separator) and target.startswith(f"{repository}/referrers/")
    return _page_request(target.removeprefix(f"{repository}/")) if inside else None


def _page_request(path: str) -> RepositoryRequest:
    return RepositoryRequest(
        path, ManifestUnknown, ManifestHidden, {"Accept": OCI_INDEX}, optional=True
    )
