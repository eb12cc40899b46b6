# SPDX-License-Identifier: Apache-2.0
"""The answers to challenges, as others find them."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

from buildset_registry.acme.challenges import _AT_ONCE, PATH, ChallengeListener, Challenges
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


async def test_who_says_nothing_keeps_no_authority_out(tmp_path: Path) -> None:
    """As many as may ask at once are there, and the authority's question is answered."""
    challenges = Challenges(FolderDocuments(tmp_path / "own"))
    await challenges.publish({"token": "answer"})
    bound = socket.create_server(("127.0.0.1", 0))
    listener = ChallengeListener(challenges, lambda: bound)
    await listener.open()
    address = bound.getsockname()
    silent = [await asyncio.open_connection(*address) for _number in range(_AT_ONCE + 1)]
    # The first one was turned away for the last: all of them have been accepted.
    assert await asyncio.wait_for(silent[0][0].read(), 60) == b""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"GET {PATH}token HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 60)
    for _reader, one in [*silent, (reader, writer)]:
        one.close()
    await listener.close()
    assert answer.endswith(b"\r\n\r\nanswer")
