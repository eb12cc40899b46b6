# SPDX-License-Identifier: Apache-2.0
"""Users and their bcrypt hashes, in Apache's htpasswd format.

A bcrypt check takes 0.2 to 0.3 s by design, and clients send their credentials with every request:
so a pair that was checked is remembered for a while, by a keyed hash, never as itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from buildset_registry.auth.access import client_network
from buildset_registry.auth.password_queue import Claimant, PasswordQueue
from buildset_registry.errors import ConfigError
from buildset_registry.latest import Latest

#: Seconds that a verified credential is trusted without another bcrypt check.
_TRUST = 300.0
_REMEMBERED = 4096
#: Seconds between two looks at the file.
_LOOK = 1.0
#: Seconds that a wrong password is refused without another check: clients repeat it.
_DISTRUST = 10.0
_BCRYPT = ("$2a$", "$2b$", "$2y$")
#: The hash that an unknown user is checked against, at the cost of the file's own hashes: the time
#: of a check tells nobody which users there are.
_NOBODY = "CwTycUXWue0Thq9StjUM0uJ8Z8W4uRfDDHCVV8uBDJ1sKqVxVZ3iS"
_NOBODY_COST = "12"

_log = logging.getLogger("buildset_registry.auth")


class Htpasswd:
    """The users of one file; changes of the file take effect within a second."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._keyed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=32)
        self._verified: Latest[bytes, float] = Latest(_REMEMBERED)
        self._refused: Latest[bytes, float] = Latest(_REMEMBERED)
        self._checking: dict[tuple[bytes, str], asyncio.Task[None]] = {}
        self._queue = PasswordQueue()
        self._looked = clock()
        self._stamp = self._state()
        self._hashes = self._read()

    def knows(self, user: str) -> bool:
        """Tell whether the file names the user."""
        self._refresh()
        return user in self._hashes

    def cached(self, user: str, password: str) -> bool:
        """Tell whether the pair was verified a short while ago, in microseconds."""
        self._refresh()
        return self._known(self._key(user, password)) is True

    async def verify(self, user: str, password: str, client: str = "") -> bool:
        """Check a password; requests that ask the same at once share one check.

        ``client`` is the address that the request came from: what others send from there it waits
        for. ``TooManyRequests`` where too many wait to be checked.
        """
        self._refresh()
        while (known := self._known(key := self._key(user, password))) is None:
            await self._share_check(key, Claimant(client_network(client), user), password)
            # Who waited while the password was changed is not to get tokens that last as the new.
            self._refresh()
        return known

    def stamp(self, user: str) -> str | None:
        """Return a stamp that changes with a user's password, or None for an unknown user."""
        self._refresh()
        return self._hashes.get(user)

    def close(self) -> None:
        """Let running checks end, and start no more."""
        self._queue.close()

    async def _share_check(self, key: bytes, claimant: Claimant, password: str) -> None:
        """Have a pair checked, by the check that is under way for it where there is one."""
        task = self._checking.get((key, claimant.network))
        if task is None:
            task = asyncio.create_task(self._check(key, claimant, password))
            self._checking[key, claimant.network] = task
            task.add_done_callback(lambda done: self._checked(key, claimant, done))
        await asyncio.shield(task)

    async def _check(self, key: bytes, claimant: Claimant, password: str) -> None:
        stored, nobody = self._hashes.get(claimant.user), self._nobody(claimant.user)
        # What was right before waits behind nobody's guesses: only its user can send it.
        async with self._queue.turn(claimant, first=key in self._verified):
            if self._known(key) is not None:
                return  # the same may have come from elsewhere, and had its turn
            matches = await self._queue.matches(password, stored or nobody)
            if matches and stored is not None:
                self._verified[key] = self._clock() + _TRUST
            else:
                self._refused[key] = self._clock() + _DISTRUST

    def _checked(self, key: bytes, claimant: Claimant, task: asyncio.Task[None]) -> None:
        del self._checking[key, claimant.network]
        if not task.cancelled():
            task.exception()  # it is told to those who wait, if they have not left

    def _known(self, key: bytes) -> bool | None:
        """Tell what came of a pair's check; None where that was not of late."""
        now = self._clock()
        if self._verified.get(key, now) > now:
            return True
        return False if self._refused.get(key, now) > now else None

    def _nobody(self, user: str) -> str:
        """Return the hash of a user that there is not; its cost is that of one that there is.

        Always the same one's: where the file has several costs, each of them is found with names
        that it does not know as often as with those that it knows.
        """
        costs = [hashed[4:6] for hashed in self._hashes.values()] or [_NOBODY_COST]
        keyed = self._keyed.copy()
        keyed.update(user.encode(errors="surrogatepass"))
        return f"$2b${costs[int.from_bytes(keyed.digest()[:8], 'big') % len(costs)]}${_NOBODY}"

    def _key(self, user: str, password: str) -> bytes:
        """Return what a pair is remembered by; another hash in the file makes it another one.

        Keyed BLAKE2 (RFC 7693): HMAC by OpenSSL takes as long as all the rest of a login.
        """
        hashed = self._hashes.get(user, "")
        keyed = self._keyed.copy()
        # The lengths first: no two pairs make the same text.
        keyed.update(f"{len(user)} {len(password)} {user}{password}{hashed}".encode())
        return keyed.digest()

    def _refresh(self) -> None:
        """Read the file again if it changed; one that cannot be read now leaves the users as is."""
        now = self._clock()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        try:
            stamp = self._state()
            if stamp != self._stamp:
                self._hashes = self._read()
                self._stamp = stamp
        except ConfigError as error:
            _log.error("%s; the users stay as they were", error)

    def _state(self) -> tuple[int, int, int]:
        try:
            state = self._path.stat()
        except OSError as error:
            raise self._unreadable(error) from None
        return state.st_mtime_ns, state.st_size, state.st_ino

    def _read(self) -> dict[str, str]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None
        return parse(text, str(self._path))

    def _unreadable(self, error: OSError | UnicodeDecodeError) -> ConfigError:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        return ConfigError(
            f"cannot read auth.htpasswd {self._path}: {reason}; name a file made by htpasswd -B"
        )


def parse(text: str, source: str) -> dict[str, str]:
    """Return the bcrypt hashes by user; users with another kind of hash are left out and logged."""
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        user, separator, hashed = entry.partition(":")
        if not separator or not user:
            raise ConfigError(f"{source}, line {number}: not user:hash; make it with htpasswd -B")
        if not hashed.startswith(_BCRYPT):
            _log.warning("%s, line %d: no bcrypt hash, so %s cannot log in", source, number, user)
            continue
        hashes[user] = hashed
    return hashes
