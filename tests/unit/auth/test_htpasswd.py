# SPDX-License-Identifier: Apache-2.0
"""Users of an htpasswd file: who is let in, for how long, and at what cost."""

import asyncio
import logging
import os
from pathlib import Path

import bcrypt
import buildset_registry.auth.password_queue
import pytest
from buildset_registry.auth.htpasswd import Htpasswd, parse
from buildset_registry.errors import ConfigError, TooManyRequests


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def hashed(password: str, cost: int = 4, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost, prefix)).decode()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(f"ci:{hashed('secret')}\n")
    return path


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A file of one user, each check of which takes some milliseconds."""
    path = tmp_path / "htpasswd"
    path.write_text(f"ci:{hashed('secret', cost=5)}\n")
    return path


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were checked by bcrypt, in order."""
    checked, matches = [], buildset_registry.auth.password_queue._matches

    def recorded(password: str, stored: str) -> bool:
        checked.append(password)
        return matches(password, stored)

    monkeypatch.setattr(buildset_registry.auth.password_queue, "_matches", recorded)
    return checked


def rewrite(file: Path, text: str) -> None:
    """Replace the file, in a way that stat shows however fast the test is."""
    file.write_text(text)
    later = file.stat().st_mtime_ns + 1_000_000_000
    os.utime(file, ns=(later, later))


async def test_a_password_is_checked(file: Path, clock: Clock) -> None:
    """The right one of a known user, and no other."""
    users = Htpasswd(file, clock)
    assert await users.verify("ci", "secret")
    assert not await users.verify("ci", "Secret")
    assert not await users.verify("nobody", "secret")
    assert (users.knows("ci"), users.knows("nobody")) == (True, False)


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
async def test_every_bcrypt_of_htpasswd_is_read(tmp_path: Path, prefix: str) -> None:
    """Apache's htpasswd writes 2y, others 2a and 2b."""
    file = tmp_path / "htpasswd"
    file.write_text(f"ci:{prefix}{hashed('secret')[4:]}\n")
    assert await Htpasswd(file).verify("ci", "secret")


async def test_a_verified_pair_is_remembered(file: Path, clock: Clock, checks: list[str]) -> None:
    """By bcrypt it is checked once, which is what takes the time."""
    users = Htpasswd(file, clock)
    for _ in range(1000):
        assert await users.verify("ci", "secret")
        assert users.cached("ci", "secret")
    assert checks == ["secret"]


async def test_a_remembered_password_is_checked_again_after_a_while(
    file: Path, clock: Clock
) -> None:
    """After a while the password is checked again."""
    users = Htpasswd(file, clock)
    assert await users.verify("ci", "secret")
    assert users.cached("ci", "secret")
    assert not users.cached("ci", "other")
    clock.now += 3600
    assert not users.cached("ci", "secret")


async def test_a_changed_file_takes_effect(file: Path, clock: Clock) -> None:
    """A new user gets in, a changed password counts at once, a removed user stays out."""
    users = Htpasswd(file, clock)
    assert await users.verify("ci", "secret")
    rewrite(file, f"ci:{hashed('changed')}\nnew:{hashed('x')}\n")
    clock.now += 2
    assert not await users.verify("ci", "secret")
    assert await users.verify("ci", "changed")
    assert await users.verify("new", "x")
    rewrite(file, "")
    clock.now += 2
    assert not users.cached("new", "x")
    assert not await users.verify("ci", "changed")


@pytest.mark.parametrize(("password", "stays"), [("changed", False), ("secret", True)])
async def test_a_file_that_changes_while_a_password_waits_counts(
    slow: Path, clock: Clock, password: str, *, stays: bool
) -> None:
    """Who was let in by the old one would be given tokens that last as long as the new one."""
    users = Htpasswd(slow, clock)
    flood = guesses(users, "192.0.2.1", 20)
    await asyncio.sleep(0)
    waiting = asyncio.create_task(users.verify("ci", "secret", "192.0.2.1"))
    await asyncio.sleep(0)
    rewrite(slow, f"ci:{hashed(password)}\n")
    clock.now += 2
    assert await waiting is stays
    await outcomes(users, flood)


def remove(file: Path) -> None:
    """Remove the file while the users are in use."""
    file.unlink()


async def test_a_file_that_breaks_leaves_the_users(
    file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An editor's half-written file locks nobody out; the log says so."""
    users = Htpasswd(file, clock)
    remove(file)
    clock.now += 2
    assert await users.verify("ci", "secret")
    assert "the users stay as they were" in caplog.text


async def test_requests_at_once_share_one_check(file: Path) -> None:
    """Fifty clients of one user cost one bcrypt; one that leaves spoils it for none."""
    users = Htpasswd(file)
    waiting = [asyncio.create_task(users.verify("ci", "secret")) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [True] * 49


async def test_a_login_from_many_addresses_costs_few_checks(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes of a cloud log in at once; each thread checks once, the others are told."""
    checks = []

    def matches(password: str, _stored: str) -> bool:
        checks.append(password)
        return password == "secret"

    monkeypatch.setattr(buildset_registry.auth.password_queue, "_matches", matches)
    users = Htpasswd(file)
    for password in ("secret", "wrong"):
        nodes = [users.verify("ci", password, f"192.0.2.{number}") for number in range(50)]
        assert set(await asyncio.gather(*nodes)) == {password == "secret"}
        assert 1 <= checks.count(password) <= max(1, (os.cpu_count() or 1) // 2)


async def test_a_long_password_counts_by_what_bcrypt_reads(tmp_path: Path) -> None:
    """htpasswd -B hashes 72 bytes, so whoever set a longer one logs in with it."""
    file = tmp_path / "htpasswd"
    password = "ä" * 36
    file.write_text(f"ci:{hashed(password)}\n")
    users = Htpasswd(file)
    assert await users.verify("ci", password + "longer")
    assert not await users.verify("ci", password[:-1])


async def test_a_flood_of_wrong_passwords_does_not_hold_others_up(
    tmp_path: Path, checks: list[str]
) -> None:
    """Who waits has a turn after one of the flood's, not after all; too many are told to wait."""
    file = tmp_path / "htpasswd"
    file.write_text(f"ci:{hashed('secret', cost=8)}\n")
    users = Htpasswd(file)
    flood = [
        asyncio.create_task(users.verify("ci", f"wrong {number}", "192.0.2.1"))
        for number in range(100)
    ]
    await asyncio.sleep(0)
    assert await users.verify("ci", "secret", "192.0.2.2")
    assert checks.index("secret") < 10
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert all(result is False or isinstance(result, TooManyRequests) for result in results)
    assert 1 <= results.count(False) < 50
    users.close()


def guesses(users: Htpasswd, address: str, names: int, each: int = 1) -> list[asyncio.Task[bool]]:
    """Send wrong passwords from one address, of so many names that there are not."""
    return [
        asyncio.create_task(users.verify(f"x{name}", f"{number} of {address}", address))
        for number in range(each)
        for name in range(names)
    ]


async def outcomes(users: Htpasswd, flood: list[asyncio.Task[bool]]) -> list[object]:
    """End a flood, and return what came of it."""
    users.close()
    return list(await asyncio.gather(*flood, return_exceptions=True))


async def test_guesses_from_behind_a_proxy_refuse_nobody_else_there(slow: Path) -> None:
    """All have the proxy's address; a name of which nothing waits has its turn soon."""
    users = Htpasswd(slow)
    flood = guesses(users, "192.0.2.1", 40)
    await asyncio.sleep(0)
    assert await users.verify("ci", "secret", "192.0.2.1")
    assert await outcomes(users, flood) == [False] * 40


async def test_more_names_than_there_is_room_for_refuse_no_newcomer(slow: Path) -> None:
    """Those that came before lose their places, since each name has one; the number is bounded."""
    users = Htpasswd(slow)
    flood = guesses(users, "192.0.2.1", 200)
    await asyncio.sleep(0)
    assert await users.verify("ci", "secret", "192.0.2.1")
    results = await outcomes(users, flood)
    assert sum(isinstance(one, TooManyRequests) for one in results) > 100


async def test_who_logs_in_from_elsewhere_waits_for_no_guesses(
    slow: Path, checks: list[str]
) -> None:
    """Also where the same pair waits behind some; that has its answer without another check."""
    users = Htpasswd(slow)
    flood = guesses(users, "192.0.2.1", 60)
    await asyncio.sleep(0)
    behind = asyncio.create_task(users.verify("ci", "secret", "192.0.2.1"))
    await asyncio.sleep(0)
    assert await users.verify("ci", "secret", "198.51.100.1")
    assert checks.index("secret") < 20
    assert await behind
    await outcomes(users, flood)


async def test_a_newcomer_is_not_refused_where_others_fill_the_queue(
    slow: Path, checks: list[str]
) -> None:
    """Of 64 addresses each has 16 passwords waiting, and somebody comes from another one."""
    users = Htpasswd(slow)
    flood = [
        one for address in range(64) for one in guesses(users, f"192.0.2.{address}", 1, each=17)
    ]
    await asyncio.sleep(0)
    assert await users.verify("ci", "secret", "198.51.100.1")
    assert checks.index("secret") < 200
    await outcomes(users, flood)


async def test_a_host_of_ipv6_is_one_client(slow: Path, checks: list[str]) -> None:
    """It has 64 bits of addresses for itself, so they share what an address of IPv4 has."""
    users = Htpasswd(slow)
    addresses = [f"2001:db8::{number:x}" for number in range(300)]
    flood = [one for address in addresses for one in guesses(users, address, 1, each=2)]
    await asyncio.sleep(0)
    assert await users.verify("ci", "secret", "2001:db8:0:1::1")
    assert checks.index("secret") < 10
    results = await outcomes(users, flood)
    assert sum(isinstance(one, TooManyRequests) for one in results) > 500


async def test_what_was_right_before_waits_behind_no_guesses(
    slow: Path, clock: Clock, checks: list[str]
) -> None:
    """Only its user can send it: no guess of whatever name is checked before."""
    users = Htpasswd(slow, clock)
    assert await users.verify("ci", "secret", "192.0.2.1")
    clock.now += 3600
    flood = guesses(users, "192.0.2.1", 60)
    await asyncio.sleep(0)
    assert await users.verify("ci", "secret", "192.0.2.1")
    assert checks[1:].index("secret") < 20
    await outcomes(users, flood)


async def test_a_wrong_password_that_is_repeated_costs_one_check(file: Path, clock: Clock) -> None:
    """A client with a stale password sends it with every request; changing it counts at once."""
    users = Htpasswd(file, clock)
    assert not await users.verify("ci", "wrong")
    users.close()  # no check is possible any more
    assert not await users.verify("ci", "wrong")
    clock.now += 60
    with pytest.raises(RuntimeError):
        await users.verify("ci", "wrong")


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The costs of the hashes that passwords were checked with, none of which is right."""
    checked = []

    def matches(_password: str, stored: str) -> bool:
        checked.append(stored[4:6])
        return False

    monkeypatch.setattr(buildset_registry.auth.password_queue, "_matches", matches)
    return checked


async def test_an_unknown_user_costs_as_much_as_a_known_one(
    tmp_path: Path, costs: list[str]
) -> None:
    """So that the time does not tell which users there are."""
    file = tmp_path / "htpasswd"
    file.write_text(f"ci:{hashed('secret', cost=9)}\n")
    users = Htpasswd(file)
    for user in ("ci", "nobody"):
        assert not await users.verify(user, "wrong")
    assert costs == ["09", "09"]


async def test_unknown_users_cost_what_known_ones_do(tmp_path: Path, costs: list[str]) -> None:
    """Where hashes have several costs, no cost is that of unknown users alone, nor does it vary."""
    file = tmp_path / "htpasswd"
    file.write_text(f"ci:{hashed('secret', cost=4)}\nold:{hashed('secret', cost=5)}\n")
    users = Htpasswd(file)
    for _round in range(2):
        for number in range(40):
            assert not await users.verify(f"nobody{number}", f"wrong{_round}")
    assert set(costs) == {"04", "05"}
    assert costs[:40] == costs[40:]


def test_a_file_may_hold_comments_and_hashes_of_another_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Comments and empty lines are left out; another hash than bcrypt locks its user out."""
    caplog.set_level(logging.WARNING)
    good = hashed("x")
    users = parse(f"# users\n\nci:{good}\nold:$apr1$abc$def\n", "htpasswd")
    assert users == {"ci": good}
    assert "htpasswd, line 4: no bcrypt hash, so old cannot log in" in caplog.text


@pytest.mark.parametrize("text", ["no colon\n", ":hash\n"])
def test_a_malformed_line_is_named(text: str) -> None:
    """By its number, and without what it holds."""
    with pytest.raises(ConfigError, match="htpasswd, line 1: not user:hash"):
        parse(text, "htpasswd")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    """Missing, or no text."""
    file = tmp_path / "htpasswd"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read auth\.htpasswd .*htpasswd -B"):
        Htpasswd(file)


async def test_a_hash_that_is_broken_lets_nobody_in(tmp_path: Path) -> None:
    """bcrypt refuses it; so do we."""
    file = tmp_path / "htpasswd"
    file.write_text("ci:$2b$99$nonsense\n")
    assert not await Htpasswd(file).verify("ci", "")


async def test_where_no_thread_may_give_way_passwords_are_checked_all_the_same(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units and containers may forbid it; else nobody could log in there."""

    def refuse(*_words: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    assert await Htpasswd(file, clock).verify("ci", "secret")
