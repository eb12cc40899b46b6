# SPDX-License-Identifier: Apache-2.0
"""A bucket of MinIO, looked at from behind."""

from __future__ import annotations

from pathlib import Path

from tests.stores.servers import S3Server, files_below

#: MinIO describes an upload in parts in a file of its own folder, in one of its key's.
_DEEP = 3


class Bucket:
    """A bucket of a server, and what is in it."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.name = server.bucket()
        self._parts = len(self._all_parts())

    def leftovers(self) -> list[str]:
        """Return what of uploads is in it."""
        parts = ["parts"] * (len(self._all_parts()) - self._parts)
        keys = self.server.keys(self.name)
        return parts + [key for key in keys if "_uploads" in key or "/downloads/" in key]

    def blobs(self) -> list[str]:
        """Return the keys of its blobs."""
        return [key for key in self.server.keys(self.name) if "/blobs/" in key]

    def _all_parts(self) -> list[Path]:
        """Return the uploads in parts, of all buckets, that are not complete."""
        place = self.server.folder / ".minio.sys" / "multipart"
        found = [path for path in files_below(place) if path.name == "xl.meta"]
        return [path.parent for path in found if len(path.relative_to(place).parts) == _DEEP]
