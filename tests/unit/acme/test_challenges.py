# SPDX-License-Identifier: Apache-2.0
"""The answers to challenges, as others find them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from buildset_registry.acme.challenges import PATH, Challenges
from buildset_registry.store.documents import FolderDocuments


async def test_a_web_server_of_another_user_may_read_an_answer(tmp_path: Path) -> None:
    """The unit of systemd has a umask by which nobody else reads what is made."""
    webroot = tmp_path / "www"
    webroot.mkdir()
    before = os.umask(0o077)
    try:
        await Challenges(FolderDocuments(tmp_path / "own"), webroot).publish({"token": "answer"})
    finally:
        os.umask(before)
    file = webroot / PATH.strip("/") / "token"
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (file, file.parent, file.parent.parent)]
    assert (file.read_text(), modes) == ("answer", [0o644, 0o755, 0o755])
