# SPDX-License-Identifier: Apache-2.0
"""When a certificate is ordered: by its times, by what failed before, and by whose turn it is."""

from __future__ import annotations

import os
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from buildset_registry.acme.authority import Authority, OrderFailed
from buildset_registry.acme.certificate import IssuedCertificate, key_pem, new_key, placeholder
from buildset_registry.acme.challenges import Challenges
from buildset_registry.acme.renewal import CERTIFICATE, STATE, Renewal, RenewalRules, RenewalState
from buildset_registry.config import parse
from buildset_registry.instance.inspection import inspect
from buildset_registry.store.documents import FolderDocuments
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

NAMES = ("registry.example.com",)
DAY = 24 * 3600


class Server:
    """Issues what a test says, or refuses."""

    def __init__(self, *outcomes: str) -> None:
        self.outcomes = list(outcomes)
        self.orders = 0

    def begin(self, account: bytes | None, _names: tuple[str, ...]) -> Any:
        self.orders += 1
        if self.outcomes and (reason := self.outcomes.pop(0)):
            raise OrderFailed(reason, 600 if "limit" in reason else None)
        return SimpleNamespace(account=account or b"account", challenges={"token": "answer"})

    def finish(self, _pending: Any) -> tuple[str, str]:
        chain, key = placeholder(NAMES)
        return chain.decode(), key.decode()


def renewal(folder: Path, server: Server, directory: str = "https://acme.example/dir") -> Renewal:
    documents = FolderDocuments(folder, secret=True)

    async def reachable() -> None:
        pass

    client: Any = server
    return Renewal(
        rules=RenewalRules(NAMES, Authority(directory=directory), 60),
        documents=documents,
        challenges=Challenges(documents),
        reachable=reachable,
        client=lambda: client,
    )


def issued(begins: timedelta, ends: timedelta) -> IssuedCertificate:
    """Return a certificate with times that count from now."""
    key, now, name = new_key(), datetime.now(timezone.utc), x509.Name([])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .sign(key, hashes.SHA256())
    )
    chain = made.public_bytes(Encoding.PEM).decode()
    directory, pem = "https://acme.example/dir", key_pem(key).decode()
    return IssuedCertificate(directory=directory, names=NAMES, chain=chain, key=pem)


@pytest.mark.parametrize(
    ("begins", "ends", "due"),
    [
        (-1, 89, False),
        (-59, 31, False),
        (-61, 29, True),
        (-91, -1, True),
        (1, 91, True),
        (-2, 4, False),
        (-4, 2, True),
    ],
)
def test_it_is_due_long_before_the_end(begins: int, ends: int, due: bool) -> None:
    """After two thirds of its life, or half of one that is short; and where a clock is wrong."""
    certificate = issued(timedelta(days=begins), timedelta(days=ends))
    assert certificate.due(time.time()) is due


async def test_another_server_is_ordered_from_anew(tmp_path: Path) -> None:
    """And the certificate that is there is shown until it has issued one."""
    first = Server()
    await renewal(tmp_path, first).look()
    again = renewal(tmp_path, first)
    await again.look()
    assert first.orders == 1
    other = Server()
    changed = renewal(tmp_path, other, "https://other.example/dir")
    await changed.load()
    assert changed.current is not None
    await changed.look()
    assert other.orders == 1
    names = [name for name in os.listdir(tmp_path) if name.startswith("account-")]  # noqa: PTH208
    assert len(names) == 2


async def test_a_name_that_cannot_be_proved_costs_the_others_nothing(tmp_path: Path) -> None:
    """The certificate before is shown until there is one for all names, and not ordered back."""
    first = renewal(tmp_path, Server())
    await first.look()
    server = Server("it cannot validate new.example.com")
    more = renewal(tmp_path, server)
    more.rules = RenewalRules((*NAMES, "new.example.com"), first.rules.authority, 60)
    await more.load()
    await more.look()
    assert (server.orders, more.current) == (1, first.current)
    (tmp_path / STATE).write_bytes(RenewalState().to_json())
    await more.look()
    assert server.orders == 2
    assert more.current is not None
    assert more.current.names == more.rules.names
    before = first.current
    await first.look()
    assert first.current is before


async def test_failures_come_later_and_later(tmp_path: Path) -> None:
    """Each pause is twice the one before, up to six hours; a server may ask for more."""
    state, now = RenewalState(), time.time()
    pauses = []
    for _number in range(12):
        state = state.failed(OrderFailed("it is down"), 60, now)
        pauses.append(state.again - now)
    assert pauses[:4] == pytest.approx([60, 120, 240, 480])
    assert pauses[-1] == pytest.approx(6 * 3600)
    asked = RenewalState().failed(OrderFailed("wait", 7200), 60, now)
    assert asked.again - now == pytest.approx(7200)
    asked = RenewalState().failed(OrderFailed("wait", 1e9), 60, now)
    assert asked.again - now == pytest.approx(DAY)


async def test_no_replica_orders_before_its_time(tmp_path: Path) -> None:
    """What failed at one is known to all; a clock that was set back does not stop it for ever."""
    server = Server("a rate limit")
    one, other = renewal(tmp_path, server), renewal(tmp_path, server)
    await one.look()
    await other.look()
    assert server.orders == 1
    assert one.state.problem == other.state.problem == "a rate limit"
    assert other.counters.in_a_row == 1
    late = RenewalState("a rate limit", 1, time.time() + 400 * DAY)
    (tmp_path / STATE).write_bytes(late.to_json())
    await other.look()
    assert server.orders == 2
    assert other.current is not None
    assert other.counters.in_a_row == 0


async def test_damaged_documents_are_ordered_anew(tmp_path: Path) -> None:
    """They are no reason to fail."""
    (tmp_path / CERTIFICATE).write_text("{}")
    (tmp_path / STATE).write_text("[]")
    server = Server()
    made = renewal(tmp_path, server)
    await made.look()
    assert made.current is not None
    assert server.orders == 1


async def test_one_at_a_time_orders(tmp_path: Path) -> None:
    """Whoever has no turn looks again later."""
    server = Server()
    turn: AbstractAsyncContextManager[bool] = FolderDocuments(tmp_path).turn()
    async with turn as mine:
        assert mine
        await renewal(tmp_path, server).look()
    assert server.orders == 0


async def test_a_wrong_clock_is_told_and_costs_one_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was just issued has ended by it: that is not tried again and again."""
    server, now = Server(), time.time()
    made = renewal(tmp_path, server)
    monkeypatch.setattr(time, "time", lambda: now + 400 * DAY)
    await made.look()
    await made.look()
    assert server.orders == 1
    assert "set the clock" in str(made.state.problem)


async def test_nothing_is_ordered_that_could_not_be_kept(tmp_path: Path) -> None:
    """A folder that cannot be written costs no order."""
    server = Server()
    made = renewal(tmp_path, server)

    async def full(name: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    made.documents.write = full  # type: ignore[method-assign]
    await made.look()
    assert server.orders == 0
    assert made.state.problem == "what belongs to an order cannot be kept (No space left on device)"


@pytest.mark.parametrize(
    ("lived", "left", "names", "failed", "told", "wait"),
    [
        (1, 89, NAMES, True, None, False),
        (61, 29, NAMES, False, None, False),
        (61, 29, NAMES, True, "it is down", False),
        (78, 12, NAMES, False, "the certificate ends on ", False),
        (3.5, 2.5, NAMES, False, None, False),
        (91, -1, NAMES, False, "the certificate ended on ", False),
        (1, 89, ("old.example.com",), False, "no certificate was issued yet", True),
        (1, 89, ("old.example.com",), True, "it is down", True),
    ],
)
def test_status_tells_of_the_certificate_that_is_wanted(
    tmp_path: Path,
    lived: float,
    left: float,
    names: tuple[str, ...],
    failed: bool,
    told: str | None,
    wait: bool,
) -> None:
    """One for other names is none, and what failed before it was issued is over."""
    found = replace(issued(timedelta(days=-lived), timedelta(days=left)), names=names)
    (tmp_path / CERTIFICATE).write_bytes(found.to_json())
    state = RenewalState("it is down", 1, time.time()) if failed else RenewalState()
    (tmp_path / STATE).write_bytes(state.to_json())
    acme = {"names": list(NAMES), "directory": found.directory, "folder": str(tmp_path)}
    tree = {"endpoints": {"single": {"port": 5000}}, "storage": "memory", "acme": acme}
    seen = inspect(parse(tree, "config.yaml", tmp_path))
    assert seen.certificate is not None
    assert (seen.certificate["ends"] is None) is wait
    said = [one.message for one in seen.attention if one.subject == "certificate"]
    assert len(said) == (told is not None)
    assert told is None or told in said[0]
