# SPDX-License-Identifier: Apache-2.0
"""From the settings of ``auth`` to who may do what: users, tokens and rules of all endpoints."""

from __future__ import annotations

import secrets

from buildset_registry.auth.access import Policy, Role
from buildset_registry.auth.authenticator import Authenticator
from buildset_registry.auth.claims import TokenVerifier
from buildset_registry.auth.external_tokens import ExternalTokens, TokenServer, load_keys
from buildset_registry.auth.htpasswd import Htpasswd
from buildset_registry.auth.rules import ACTIONS, EVERY, AccessRule, AccessRules
from buildset_registry.auth.tokens import Signing, TokenIssuer
from buildset_registry.config import AuthSettings, RuleSettings, TokenServerSettings, is_http_url
from buildset_registry.errors import ConfigError
from buildset_registry.oci.hosts import RegistryHost

_SERVICE = "buildset-registry"
_KEY_BYTES = 32


class AccessControl:
    """Users, tokens and rules, which all endpoints share; close it at the end."""

    def __init__(self, auth: AuthSettings, private_hosts: frozenset[RegistryHost]) -> None:
        self._auth = auth
        self._private_hosts = private_hosts
        self._htpasswd = Htpasswd(auth.htpasswd) if auth.htpasswd else None
        self._tokens: TokenVerifier = (
            _external_tokens(auth.token) if auth.token else _token_issuer(auth)
        )
        self._rules = AccessRules(list(map(_access_rule, auth.rules)))

    def authenticator(self, role: Role) -> Authenticator:
        """Return the authenticator of an endpoint, which has its policy."""
        policy = Policy(
            endpoint=role,
            anonymous_pull=self._auth.anonymous_pull,
            private_hosts=self._private_hosts,
            allowed_networks=self._auth.allowed_networks,
            rules=self._rules,
            external=self._auth.token is not None,
        )
        return Authenticator(self._htpasswd, self._tokens, policy)

    def close(self) -> None:
        """Let checks of passwords end."""
        if self._htpasswd is not None:
            self._htpasswd.close()


def _access_rule(settings: RuleSettings) -> AccessRule:
    actions = ACTIONS if EVERY in settings.actions else frozenset(settings.actions)
    return AccessRule(frozenset(settings.users), settings.repositories, actions)


def _external_tokens(settings: TokenServerSettings) -> ExternalTokens:
    if not is_http_url(settings.realm):
        raise ConfigError(f"auth.token.realm {settings.realm!r} is not an https:// or http:// URL")
    keys = load_keys(settings.rootcertbundle, settings.jwks)
    return ExternalTokens(TokenServer(settings.realm, settings.service, settings.issuer, keys))


def _token_issuer(auth: AuthSettings) -> TokenIssuer:
    # A refresh token that ended with the process would lock its client out until its next login.
    refresh_seconds = auth.refresh_seconds if auth.token_key else 0
    return TokenIssuer(Signing(_token_key(auth), _SERVICE, auth.token_seconds, refresh_seconds))


def _token_key(auth: AuthSettings) -> bytes:
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
