# SPDX-License-Identifier: Apache-2.0
"""The header by which a registry says that it verifies blobs, so that clients need not hash them.

The distribution specification has a registry compare a blob with its digest, and no way to say that
it does. The answer that begins an upload has this header.
"""

from __future__ import annotations

HEADER = "Buildset-Registry-Verifies"
VERIFIES = {HEADER: "digest"}


def is_verifying(stated: str | None) -> bool:
    """Tell whether the header is that of a registry that compares blobs with their digests."""
    return stated == VERIFIES[HEADER]
