# SPDX-License-Identifier: Apache-2.0
"""HEAD works wherever GET does, and tells the same."""

import pytest
from buildset_registry.http.routes import ROUTES
from httpx import Response

from tests.api.harness import Registry, digest_of

CHANGING = {"date", "issued_at"}
GETS = sorted({route.path for route in ROUTES if route.method == "GET"})


@pytest.mark.parametrize("path", GETS)
def test_head_tells_what_get_would(registry: Registry, path: str) -> None:
    """The same status and headers, and no body; for what is there and for what is not."""
    digest = registry.push_image("org/app", "v1")
    started = registry.push.post("/v2/org/app/blobs/uploads/")
    upload = started.headers["location"].rpartition("/")[2]
    there = {
        "name": "org/app",
        "digest": digest if "referrers" in path else digest_of(b"seed" * 10),
        "reference": digest,
        "upload": upload,
    }
    missing = there | {"name": "org/none", "digest": digest_of(b"none"), "reference": "none"}
    for values in (there, missing):
        asked = path.format(**values)
        got, head = registry.push.get(asked), registry.push.head(asked)
        assert head.status_code == got.status_code
        assert head.content == b""
        assert headers(head) == headers(got)


def headers(answer: Response) -> dict[str, str]:
    """Return the headers that do not change by themselves."""
    return {name: value for name, value in answer.headers.items() if name not in CHANGING}
