# SPDX-License-Identifier: Apache-2.0
"""The pages of a running registry: repositories, tags, images down to layers and history; pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from buildset_registry.ledger.facts import platforms_of
from buildset_registry.oci.descriptor import INDEXES, Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.report.assets import LIVE_SCRIPT
from buildset_registry.report.html import Markup, element, joined
from buildset_registry.report.page import Section, document
from buildset_registry.report.tables import bytes_cell, digest_code, table
from buildset_registry.report.text import amount

#: Steps of a history that are shown.
_STEPS = 500
#: Layers, or images of an index, that are shown.
_MOST_PARTS = 500


@dataclass(frozen=True, slots=True)
class Place:
    """The registry's address: the host that images are pulled from, and the front of each path."""

    host: str
    prefix: str = ""
    """What a proxy in front takes off; mostly nothing."""

    def link(self, name: str) -> str:
        """Return where the page of a repository is."""
        return f"{self.prefix}/repositories/{quote(name)}"


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer that is under way."""

    kind: str
    name: str
    received: int
    size: int | None


@dataclass(slots=True)
class StoredImage:
    """An image as it is shown."""

    manifest: Manifest
    platforms: dict[str, str]
    config: Descriptor | None
    about: list[str] = field(default_factory=list)
    history: list[tuple[str, str]] = field(default_factory=list)
    """When each step was made, and by what."""

    def add_history(self, content: bytes) -> None:
        """Read platform and history of an image's configuration, whatever it holds."""
        try:
            tree = json.loads(content)
        except (ValueError, RecursionError):
            return
        if not isinstance(tree, dict):
            return
        words = [tree.get(key) for key in ("os", "architecture", "variant", "created")]
        self.about = [word for word in words if isinstance(word, str)]
        steps = tree.get("history")
        for step in steps[:_STEPS] if isinstance(steps, list) else []:
            if isinstance(step, dict):
                self.history.append((str(step.get("created", "")), str(step.get("created_by", ""))))


def read_image(raw: bytes, media_type: str, digest: Digest) -> StoredImage:
    """Return an image of its manifest."""
    manifest = Manifest.stored(raw, media_type, digest.algorithm)
    config = None if manifest.manifests or not manifest.blobs else manifest.blobs[0]
    return StoredImage(manifest, platforms_of(raw), config)


def front_page(
    place: Place, names: Sequence[str], following: str, transfers: Sequence[Transfer]
) -> str:
    """Return the page of the whole registry."""
    rows = [(element("a", name, href=place.link(name)),) for name in names]
    listed = table("repositories-table", "Repositories", ("Repository",), rows)
    moving = [
        (
            one.kind,
            one.name,
            bytes_cell(one.received),
            "unknown" if one.size is None else amount(one.size),
            _progress(one),
        )
        for one in transfers
    ]
    columns = ("Transfer", "Repository", "Arrived", "Of", "Progress")
    shown = table("transfers-table", "Transfers", columns, moving) if moving else "None now."
    sections: list[Section] = [
        ("transfers", "Running transfers", element("div", shown, id="transfers-now", data_live="")),
        ("repositories", "Repositories", joined(listed, _more(following))),
    ]
    return _document(f"Registry {place.host}", sections, "What is here, and what is under way.")


def repository_page(place: Place, name: str, tags: Sequence[str], following: str) -> str:
    """Return the page of a repository."""
    base, host = place.link(name), place.host
    rows = [
        (
            element("a", tag, href=f"{base}?reference={quote(tag)}"),
            element("code", f"{host}/{name}:{tag}"),
        )
        for tag in tags
    ]
    made = table("tags-table", "Tags", ("Tag", "Name to pull"), rows)
    return _document(
        name, [("tags", "Tags", joined(made, _more(following)))], _up(f"{place.prefix}/", host)
    )


def image_page(place: Place, name: str, tag: str, image: StoredImage) -> str:
    """Return the page of an image or index."""
    manifest = image.manifest
    digest, host, base = str(manifest.digest), place.host, place.link(name)
    whole = f"{host}/{name}:{tag}" if tag else f"{host}/{name}@{digest}"
    pinned = f"{host}/{name}@{digest}"
    commands = [f"{tool} pull {one}" for tool in ("podman", "docker") for one in (whole, pinned)]
    lines = dict.fromkeys(commands)
    about = [manifest.media_type, *image.about]
    sections: list[Section] = [
        ("pull", "Pull it", joined(*(element("pre", one, tabindex=0) for one in lines))),
        ("manifest", "Manifest", joined(*(element("p", line) for line in [digest, *about]))),
    ]
    parts = manifest.manifests if manifest.media_type in INDEXES else manifest.blobs
    if parts:
        title = "Platforms" if manifest.media_type in INDEXES else "Configuration and layers"
        sections.append(("parts", title, _parts(base, title, image, parts)))
    if image.history:
        history = table("history-table", "History", ("Made", "By"), image.history)
        sections.append(("history", "History", history))
    return _document(f"{name}:{tag}" if tag else name, sections, _up(base, name))


def _parts(base: str, title: str, image: StoredImage, parts: Sequence[Descriptor]) -> Markup:
    listed = image.manifest.media_type in INDEXES
    rows: list[Sequence[object]] = []
    for one in parts[:_MOST_PARTS]:
        digest, size = digest_code(str(one.digest)), bytes_cell(one.size)
        if listed:
            link = f"{base}?reference={one.digest}"
            platform = image.platforms.get(str(one.digest), "")
            rows.append((element("a", digest, href=link), one.media_type, size, platform))
        else:
            rows.append((digest, one.media_type, size))
    columns = ["Digest", "Type", "Size", *(["Platform"] if listed else [])]
    shown = table("parts-table", title, columns, rows)
    more = len(parts) - len(rows)
    return joined(shown, element("p", f"{more:,} more are not shown.")) if more else shown


def _progress(transfer: Transfer) -> Markup:
    if not transfer.size:
        return element("span", "under way")
    value = min(100, 100 * transfer.received // transfer.size)
    return element("progress", f"{value} %", value=value, max=100, aria_label=transfer.name)


def _more(following: str) -> Markup:
    link = element("a", "What follows", href=following, rel="next")
    return element("p", link) if following else Markup()


def _up(href: str, name: str) -> Markup:
    return element("a", f"Back to {name}", href=href)


def _document(title: str, sections: Sequence[Section], told: object) -> str:
    # Without an icon of its own, a browser asks for one that is not there.
    icon = element("link", rel="icon", href="data:,")
    return document(title, sections, [element("p", told)], icon, script=LIVE_SCRIPT)
