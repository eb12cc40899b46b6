# SPDX-License-Identifier: Apache-2.0
"""The tags of the overlay, for the look-up: each means the image that another build has made.

The file is looked at whenever a tag is asked for, so that a registry that runs has what it is
handed at once, and one that starts has what it had.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from buildset_registry.errors import ConfigError
from buildset_registry.oci.names import Reference, RepositoryName, Tag
from buildset_registry.overlay.document import FILE, OverlaidImage, Overlay
from buildset_registry.sources import FixedTag

_log = logging.getLogger("buildset_registry.upstream")


class OverlaidTags:
    """The tags of the overlay in a folder."""

    def __init__(self, folder: Path) -> None:
        """Read what is there; ``ConfigError`` where it is damaged."""
        self.folder = folder
        self._stamp = self._look()
        self._overlay = Overlay.load(folder)

    @property
    def overlay(self) -> Overlay:
        """The overlay as it is now; a file that becomes damaged leaves it as it was.

        ``OSError`` where it is another one and cannot be read, as long as that is so: nobody knows
        what is overlaid then, and what upstreams have would be another image.
        """
        stamp = self._look()
        if stamp != self._stamp:
            try:
                self._overlay = Overlay.load(self.folder)
            except ConfigError as error:
                if isinstance(error.__cause__, OSError):
                    raise OSError(error.__cause__.errno, str(error)) from None
                _log.error("%s; what was overlaid before goes on", error)
            self._stamp = stamp
        return self._overlay

    def find(self, name: RepositoryName, tag: Tag) -> FixedTag | None:
        """Return what a tag means; None where it is not overlaid."""
        for image in self.of(name):
            if image.name.tag == tag:
                return FixedTag(image.digest, f"the overlay ({image.made_by})")
        return None

    def of(self, name: RepositoryName) -> Sequence[OverlaidImage]:
        """Return the images of a repository."""
        return self.overlay.by_name.get(name.canonical, ())

    def tags(self, name: RepositoryName) -> list[Tag]:
        """Return the tags of a repository, sorted."""
        return sorted({image.name.tag for image in self.of(name)})

    def repositories(self) -> list[RepositoryName]:
        """Return the repositories, sorted."""
        return sorted(self.overlay.by_name)

    def image(self, name: RepositoryName, reference: Reference) -> OverlaidImage | None:
        """Return the image that a tag or a digest names."""
        for image in self.of(name):
            if reference in (image.name.tag, image.digest):
                return image
        return None

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = (self.folder / FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
