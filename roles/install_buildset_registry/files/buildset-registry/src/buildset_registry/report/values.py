# SPDX-License-Identifier: Apache-2.0
"""The report as values: what was pushed, pulled, missed, moved, and what is not known; pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any


@dataclass(slots=True)
class Layer:
    """A layer, or the configuration, of an image that was pushed; or what an index lists."""

    digest: str
    media_type: str
    size: int
    platform: str = ""


@dataclass(slots=True)
class PushedImage:
    """A manifest that was pushed."""

    time: str
    client: str
    user: str
    agent: str
    image: str
    references: list[str]
    digest: str
    media_type: str
    parts: list[Layer] = field(default_factory=list)
    size: int | None = None
    """Bytes of all of it; None where it is not stored any more."""

    pulls: int = 0


@dataclass(slots=True)
class PulledImage:
    """An image that a client got."""

    time: str
    client: str
    user: str
    agent: str
    image: str
    asked: str
    reference: str
    digest: str
    media_type: str
    manifests: list[dict[str, str]]
    origin: str
    """``pushed``, ``upstream``, ``overlay`` or ``unknown``."""

    registry: str
    """The upstream that it came from; empty where it came from none."""

    source: str
    """The origin in words."""

    stale: bool
    read: bool
    """False where the client asked by HEAD alone: it had the image, or just looked."""

    requests: int
    store_bytes: int
    upstream_bytes: int


@dataclass(slots=True)
class MissedImage:
    """A name that was asked for and not served."""

    time: str
    client: str
    agent: str
    image: str
    reference: str
    status: int
    requests: int


@dataclass(slots=True)
class UpstreamUse:
    """The use that was made of an upstream."""

    registry: str
    images: int = 0
    """Images of it that clients got."""

    fetched: int = 0
    """Manifests that were fetched there, each of which it may count as a pull."""

    received: int = 0
    """Bytes that came from there."""

    sent: int = 0
    """Bytes of its images that clients got."""

    failed: int = 0
    limit: int | None = None
    remaining: int | None = None
    window: int = 0
    told: float = 0.0


@dataclass(slots=True)
class MovedTag:
    """A tag that stood for several images, one after the other."""

    image: str
    tag: str
    digests: list[str]
    where: str
    """``pushed`` again, ``upstream``, or that it has moved there since it was pulled."""


@dataclass(slots=True)
class NodeUse:
    """A client's address, and what is known of it."""

    address: str
    name: str = ""
    pulls: int = 0
    asked: bool = False
    """Whether it asked for anything, got or not."""

    agents: list[str] = field(default_factory=list)
    canary: str = ""
    """``found`` by these agents, or ``pushed`` and never pulled; empty where there was none."""

    said: list[str] = field(default_factory=list)
    """The words in which the node told what became of its canary, of each of its users."""


@dataclass(slots=True)
class Summary:
    """The whole report."""

    registry: str
    made: str
    begun: str = ""
    ended: str = ""
    pushes: list[PushedImage] = field(default_factory=list)
    pulls: list[PulledImage] = field(default_factory=list)
    missing: list[MissedImage] = field(default_factory=list)
    upstreams: list[UpstreamUse] = field(default_factory=list)
    moved: list[MovedTag] = field(default_factory=list)
    nodes: list[NodeUse] = field(default_factory=list)
    cache: dict[str, int] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)
    """What did not happen, as far as can be told, in sentences."""

    gaps: list[str] = field(default_factory=list)
    """What the report lacks, in sentences."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"version": 1, **_plain(self)}


def _plain(value: Any) -> Any:
    """Return a value without dataclasses; texts and dictionaries in it are not copied."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return value
