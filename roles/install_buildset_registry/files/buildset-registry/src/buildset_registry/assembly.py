# SPDX-License-Identifier: Apache-2.0
"""From the configuration to what guards each endpoint, who is notified, what is collected."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from buildset_registry.auth.access import Policy, Role
from buildset_registry.auth.authenticator import Authenticator
from buildset_registry.auth.claims import TokenVerifier
from buildset_registry.auth.htpasswd import Htpasswd
from buildset_registry.auth.issuer import IssuedTokens, Issuer, load_keys
from buildset_registry.auth.rights import ACTIONS, EVERY, Rights, Rule
from buildset_registry.auth.tokens import Signing, Tokens
from buildset_registry.config import Auth, Config, Gc, TokenServer, Webhook
from buildset_registry.errors import ConfigError
from buildset_registry.gc import Rules as CollectionRules
from buildset_registry.notifications.webhook import Receiver

_SERVICE = "buildset-registry"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Guard:
    """What decides about the requests of one endpoint."""

    policy: Policy
    authenticator: Authenticator


class Guards:
    """What the guards of all endpoints share: users, tokens, rules; close it at the end."""

    def __init__(self, config: Config) -> None:
        auth = config.auth
        self._config = config
        self._htpasswd = Htpasswd(auth.htpasswd) if auth.htpasswd else None
        self._tokens: TokenVerifier = _issued(auth.token) if auth.token else _own_tokens(auth)
        self._rights = Rights(
            [_rule(rule.users, rule.repositories, rule.actions) for rule in auth.rules]
        )

    def guard(self, role: Role) -> Guard:
        """Return what guards one endpoint."""
        auth = self._config.auth
        private = (upstream.name for upstream in self._config.upstreams if upstream.private)
        policy = Policy(
            endpoint=role,
            anonymous_pull=auth.anonymous_pull,
            private_hosts=frozenset(private),
            allowed_networks=auth.allowed_networks,
            rights=self._rights,
            external=auth.token is not None,
        )
        return Guard(policy, Authenticator(self._htpasswd, self._tokens, policy))

    def close(self) -> None:
        if self._htpasswd is not None:
            self._htpasswd.close()


def receiver(webhook: Webhook) -> Receiver:
    """Return a receiver of notifications."""
    return Receiver(
        name=webhook.name,
        url=webhook.url,
        headers=webhook.headers,
        ca=webhook.ca,
        timeout=webhook.timeout_seconds,
        wait=webhook.retry_seconds,
        room=max(1, webhook.queue),
        ignored_actions=frozenset(webhook.ignore_actions),
        ignored_media_types=frozenset(webhook.ignore_media_types),
    )


def collection_rules(settings: Gc) -> CollectionRules:
    """Return what the garbage collector goes by."""
    return CollectionRules(
        grace=settings.grace,
        untagged=settings.untagged,
        uploads=settings.uploads,
        cache_size=settings.cache_size,
    )


def _rule(users: tuple[str, ...], patterns: tuple[str, ...], actions: tuple[str, ...]) -> Rule:
    given = ACTIONS if EVERY in actions else frozenset(actions)
    return Rule(frozenset(users), patterns, given)


def _issued(server: TokenServer) -> IssuedTokens:
    if urlsplit(server.realm).scheme not in ("https", "http"):
        raise ConfigError(f"auth.token.realm {server.realm!r} is not an https:// URL")
    keys = load_keys(server.rootcertbundle, server.jwks)
    return IssuedTokens(Issuer(server.realm, server.service, server.issuer, keys))


def _own_tokens(auth: Auth) -> Tokens:
    # A refresh token that ended with the process would lock its client out until its next login.
    refresh_seconds = auth.refresh_seconds if auth.token_key else 0
    return Tokens(Signing(_token_key(auth), _SERVICE, auth.token_seconds, refresh_seconds))


def _token_key(auth: Auth) -> bytes:
    """Return the key that signs tokens; a random one where the configuration names none."""
    if auth.token_key is None:
        return secrets.token_bytes(_KEY_BYTES)
    try:
        key = auth.token_key.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read auth.token_key {auth.token_key}: {error.strerror}; name a file of "
            f"{_KEY_BYTES} random bytes"
        ) from None
    if len(key) < _KEY_BYTES:
        raise ConfigError(
            f"auth.token_key {auth.token_key} is shorter than {_KEY_BYTES} bytes; make a new one"
        )
    return key
