# SPDX-License-Identifier: Apache-2.0
"""Events in distribution's envelope."""

import json

from buildset_registry.notifications.events import Cause, Event, Source, Target

CAUSE = Cause(client="192.0.2.1", host="r:5000", method="PUT", agent="test", user="ci")


def test_an_event_is_written_as_distribution_writes_it() -> None:
    """As distribution writes it: what is empty is left out."""
    told = Event(
        "push",
        Target(
            repository="org/app",
            media_type="m",
            digest="sha256:1",
            size=3,
            tag="v1",
            url="https://u",
        ),
        CAUSE,
    )
    (tree,) = json.loads(Source(5000).envelope(told))["events"]
    assert tree["action"] == "push"
    assert tree["target"] == {
        "mediaType": "m",
        "size": 3,
        "digest": "sha256:1",
        "length": 3,
        "repository": "org/app",
        "url": "https://u",
        "tag": "v1",
    }
    assert tree["request"] == {
        "id": told.id,
        "addr": "192.0.2.1",
        "host": "r:5000",
        "method": "PUT",
        "useragent": "test",
    }
    assert tree["actor"] == {"name": "ci"}
    assert tree["source"]["addr"].endswith(":5000")
    assert tree["timestamp"].endswith("Z")
