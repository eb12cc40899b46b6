# SPDX-License-Identifier: Apache-2.0
"""Limits of what clients use at once."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from buildset_registry.errors import TooManyRequests
from buildset_registry.http.context import UploadLimit
from buildset_registry.http.senders import Sender
from buildset_registry.oci.names import RepositoryName

NAME = RepositoryName("app")
UPLOAD: Any = None
CI = Sender("ci", "10.0.0.1")


def test_a_quarter_of_the_uploads_is_for_others() -> None:
    """Whoever sends slowly, and as many as there may be, keeps nobody else from pushing."""
    limit = UploadLimit(8)
    with ExitStack() as stack:
        for _number in range(6):
            stack.enter_context(limit.one(NAME, UPLOAD, CI))
        with pytest.raises(TooManyRequests, match=r"6 uploads.*allows to one client, ci at 10"):
            stack.enter_context(limit.one(NAME, UPLOAD, CI))
        for other in (Sender("ci", "10.0.0.2"), Sender("zuul", "10.0.0.1")):
            stack.enter_context(limit.one(NAME, UPLOAD, other))
        with pytest.raises(TooManyRequests, match=r"8 uploads are running, as many as limits.up"):
            stack.enter_context(limit.one(NAME, UPLOAD, Sender("zuul", "10.0.0.3")))
    with limit.one(NAME, UPLOAD, CI):
        assert limit.running == 1


@pytest.mark.parametrize("most", [0, 1])
def test_one_upload_there_may_always_be(most: int) -> None:
    """A limit of 0 is none."""
    limit = UploadLimit(most)
    with limit.one(NAME, UPLOAD, CI):
        assert limit.running == 1
