# SPDX-License-Identifier: Apache-2.0
"""Events, in the envelope that distribution's users know; no I/O.

Source: distribution's "Work with notifications", media type
``application/vnd.docker.distribution.events.v1+json``.
"""

from __future__ import annotations

import json
import socket
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone

MEDIA_TYPE = "application/vnd.docker.distribution.events.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The object of an event: a blob or a manifest."""

    repository: str
    media_type: str = ""
    digest: str = ""
    size: int | None = None
    tag: str = ""
    url: str = ""
    from_repository: str = ""
    """Where a mounted blob is from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The request that did it, and whose it was."""

    client: str
    host: str
    method: str
    agent: str
    user: str


@dataclass(frozen=True, slots=True)
class Event:
    """``action`` is ``push``, ``pull``, ``mount`` or ``delete``."""

    action: str
    target: Target
    cause: Cause
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


class Source:
    """This process, as each event names it."""

    def __init__(self, port: int) -> None:
        self._tree = {"addr": f"{socket.gethostname()}:{port}", "instanceID": str(uuid.uuid4())}

    def envelope(self, event: Event) -> bytes:
        """Return the body of a notification of one event, as distribution sends them."""
        tree = {
            "id": event.id,
            "timestamp": event.time.isoformat().replace("+00:00", "Z"),
            "action": event.action,
            "target": _target(event.target),
            "request": {
                "id": event.id,
                "addr": event.cause.client,
                "host": event.cause.host,
                "method": event.cause.method,
                "useragent": event.cause.agent,
            },
            "actor": {"name": event.cause.user} if event.cause.user else {},
            "source": self._tree,
        }
        return json.dumps({"events": [tree]}).encode()


def _target(target: Target) -> dict[str, object]:
    """Leave out what is empty, as Go's ``omitempty`` does."""
    tree: dict[str, object] = {
        "mediaType": target.media_type,
        "size": target.size,
        "digest": target.digest,
        "length": target.size,
        "repository": target.repository,
        "fromRepository": target.from_repository,
        "url": target.url,
        "tag": target.tag,
    }
    return {key: value for key, value in tree.items() if value not in ("", None)}
