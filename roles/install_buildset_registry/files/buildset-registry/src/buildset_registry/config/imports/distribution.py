# SPDX-License-Identifier: Apache-2.0
"""Distribution's configuration (2.8 and 3), with the variables that override it.

The keys: https://distribution.github.io/distribution/about/configuration/.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import yaml

from buildset_registry.config.imports.tree import Tree
from buildset_registry.config.storage import StorageSettings
from buildset_registry.errors import YAML_FAULTS, ConfigError

_Tree = dict[str, Any]

#: Keys whose work is done here without being told.
_SETTLED = (
    "version",
    "storage.cache",
    "storage.filesystem.maxthreads",
    "storage.tag",
    "storage.delete",
    "storage.maintenance.uploadpurging.enabled",
    "storage.maintenance.uploadpurging.interval",
    "redis",
    "http.secret",
    "http.relativeurls",
    "http.http2",
    "http.h2c",
    "http.debug",
    "auth.htpasswd.realm",
    "health.storagedriver",
    "validation.disabled",
)
#: What to say of a key that has no equal, by the longest of these that it begins with.
_MISSING = {
    "": "has no equal here",
    "log.level": "the log has one level",
    "loglevel": "the log has one level",
    "log.accesslog": "requests are always logged; log.file says where",
    "http.tls.clientcas": "clients are not asked for certificates: whoever reaches the port is let "
    "in as auth says; let a proxy in front ask for them",
    "http.tls.clientauth": "clients are not asked for certificates",
    "http.tls.letsencrypt": "is not used there either without a cachefile",
    "http.tls.minimumtls": "TLS 1.2 and 1.3 are spoken",
    "http.tls.ciphersuites": "cipher suites cannot be chosen",
    "http.headers": "headers of answers cannot be added; let a proxy in front do it",
    "http.prefix": "the API is at /v2/; a proxy in front may put it below another path",
    "http.net": "it listens on TCP ports only",
    "auth.silly": "it lets in whoever sends anything; make users with htpasswd -B",
    "auth.token.autoredirect": "the realm is what auth.token.realm says",
    "health": "checks of other things belong to the monitoring; /readyz tells of the store",
    "proxy.ttl": "what was pulled through stays until gc.cache_size is reached",
    "proxy.exec": "credentials from a program have no equal; set username and password",
    "compatibility.schema1": "images of schema 1 are not taken",
    "validation": "an image is checked for its layers, not for URLs or platforms",
    "catalog.maxentries": "a page of the catalog has as many entries as the client asks for",
    "tags.maxtags": "a page of tags has as many entries as the client asks for",
    "middleware": "there is no middleware but redirects of storage",
    "middleware.storage.cloudfront": "clients in Amazon's networks are sent there, too; "
    "storage.redirect.except_networks has those that get blobs here",
}
#: Docker Hub's API has another name than its images.
_HUB = ("registry-1.docker.io", "index.docker.io", "docker.io")


def from_distribution(
    tree: _Tree, source: str, environment: Mapping[str, str]
) -> tuple[_Tree, tuple[str, ...]]:
    """Return what a configuration becomes, and what to say of it."""
    if str(tree.get("version")) != "0.1":
        raise ConfigError(
            f"{source}: version {tree.get('version')!r} is not known; distribution has only 0.1"
        )
    for name in sorted(environment):
        words = name.split("_")[1:]
        if name.startswith("REGISTRY_") and all(words):
            _override(tree, words, name, environment[name])
    reader = Tree(tree, source)
    config: _Tree = {}
    notes: list[str] = []
    for take in _SECTIONS:
        take(reader, config, notes)
    for key in reader.left():
        if not any(key == done or key.startswith(f"{done}.") for done in _SETTLED):
            longest = max((one for one in _MISSING if key.startswith(one)), key=len)
            notes.append(f"{key}: {_MISSING[longest]}")
    return config, tuple(notes)


def _override(tree: Any, words: list[str], name: str, value: str) -> None:
    """Put the value of a variable where its name leads, in whatever case the keys are."""
    try:
        content = yaml.safe_load(value)
    except (yaml.YAMLError, *YAML_FAULTS):
        raise ConfigError(f"the variable {name} is not YAML; quote what it holds") from None
    *above, last = words
    place = tree
    for word in above:
        key = _key(place, word, name)
        if not isinstance(place[key], (dict, list)):
            place[key] = {}
        place = place[key]
    key = _key(place, last, name)
    if key in ("storage", "auth"):
        if isinstance(content, (list, dict)):
            raise ConfigError(f"the variable {name} must be the name of a kind")
        content = {content: {}}  # it ends what the file has below it
    place[key] = content


def _key(place: Any, word: str, name: str) -> Any:
    """Return the key or the index that a word of a variable names; it is there afterwards."""
    if isinstance(place, dict):
        key = next((one for one in place if str(one).upper() == word.upper()), word.lower())
        place.setdefault(key, None)
        return key
    if not word.isdecimal() or int(word) > len(place):
        raise ConfigError(f"the variable {name} names no item of a list by {word}")
    if int(word) == len(place):
        place.append(None)
    return int(word)


def _endpoint(tree: Tree, config: _Tree, notes: list[str]) -> None:
    role = "pull" if _mirrors(tree) else "single"
    config["endpoints"] = {role: tree.address("http.addr", ":5000")}
    if tree.text("http.net") == "unix":
        notes.append("http.net: it listens on TCP ports only; endpoints has port 5000 in its place")
    if tree.text("http.prefix") not in (None, "/"):
        notes.append(f"http.prefix: {_MISSING['http.prefix']}")
    if tree.text("http.host") and not tree.flag("http.relativeurls"):
        config["absolute_urls"] = True
        notes.append("http.host: whole URLs have the host that the proxy in front passes on")


def _storage(tree: Tree, config: _Tree, notes: list[str]) -> None:
    services = [name for name in StorageSettings.SERVICES if tree.has(f"storage.{name}")]
    if services:
        config["storage"] = {services[0]: _service(tree, services[0], notes)}
        if tree.flag("storage.redirect.disable"):
            config["storage"]["redirect"] = {"disable": True}
    elif tree.has("storage.inmemory"):
        tree.take("storage.inmemory")
        config["storage"] = "memory"
    else:
        tree.take("storage.redirect.disable")
        tree.take("storage.filesystem")
        config["storage"] = tree.text("storage.filesystem.rootdirectory") or "/var/lib/registry"
    if tree.flag("storage.maintenance.readonly.enabled"):
        config["read_only"] = True
    age = tree.duration("storage.maintenance.uploadpurging.age")
    if age is not None:
        config["gc"] = {"uploads": age}
    if tree.flag("storage.maintenance.uploadpurging.dryrun"):
        notes.append("storage.maintenance.uploadpurging.dryrun: old uploads are removed")


def _service(tree: Tree, name: str, notes: list[str]) -> _Tree:
    """Return a service's section, without the parameters that are not known here."""
    found = tree.section(f"storage.{name}")
    known = {one.name for one in dataclasses.fields(StorageSettings.SERVICES[name])}
    notes += [f"storage.{name}.{key}: {_MISSING['']}" for key in found if key not in known]
    return {key: value for key, value in found.items() if key in known}


def _tls(tree: Tree, config: _Tree, _notes: list[str]) -> None:
    certificate, key = tree.text("http.tls.certificate"), tree.text("http.tls.key")
    if certificate and key:
        config["tls"] = {"certificate": certificate, "key": key}


def _acme(tree: Tree, config: _Tree, notes: list[str]) -> None:
    """Take the certificate by Let's Encrypt, which distribution uses where it has a cachefile."""
    where = "http.tls.letsencrypt"
    if tree.text(f"{where}.cachefile") is None:
        return
    hosts = tree.list(f"{where}.hosts")
    if not hosts:
        raise tree.error(f"{where}.hosts", "the names that the certificate is for", None)
    told = {
        "names": hosts,
        "email": tree.text(f"{where}.email"),
        "directory": tree.text(f"{where}.directoryurl"),
    }
    config["acme"] = {key: value for key, value in told.items() if value}
    notes.append(
        f"{where}: acme has the challenge HTTP-01, so port 80 of each name has to lead here; "
        "install buildset-registry[acme]"
    )
    notes.append(f"{where}.cachefile: account and certificate are new, and kept with the images")


def _auth(tree: Tree, config: _Tree, notes: list[str]) -> None:
    auth: _Tree = {}
    if tree.text("auth.htpasswd.path"):
        auth["htpasswd"] = tree.text("auth.htpasswd.path")
        auth["anonymous_pull"] = False
    elif tree.has("auth.htpasswd"):
        raise tree.error("auth.htpasswd.path", "the file of users", None)
    if tree.has("auth.token"):
        keys = ("realm", "service", "issuer", "rootcertbundle", "jwks")
        auth["token"] = {key: value for key in keys if (value := tree.text(f"auth.token.{key}"))}
        auth["anonymous_pull"] = False
    if "htpasswd" in auth and not tree.flag("storage.delete.enabled"):
        # There, deleting is off unless it is asked for.
        auth["rules"] = [{"repositories": ["**"], "actions": ["pull", "push"]}]
    elif "token" in auth and not tree.flag("storage.delete.enabled") and not _mirrors(tree):
        notes.append(
            "storage.delete: deleting is off there; here whoever the token server lets delete may, "
            "so have it let nobody"
        )
    if not auth and not _mirrors(tree):
        notes.append(
            "auth: distribution lets everybody push, here nobody may without a user; "
            "make a file with htpasswd -B and name it in auth.htpasswd"
        )
    if auth:
        config["auth"] = auth


def _mirrors(tree: Tree) -> bool:
    """Tell whether nobody may write in any case."""
    return tree.has("proxy.remoteurl")


def _proxy(tree: Tree, config: _Tree, notes: list[str]) -> None:
    url = tree.text("proxy.remoteurl")
    if url is None:
        return
    try:
        address = urlsplit(url if "//" in url else f"https://{url}")
    except ValueError:
        raise tree.error("proxy.remoteurl", "an https:// or http:// URL", url) from None
    hub = address.hostname in _HUB
    name = "docker.io" if hub else address.netloc.rpartition("@")[2]
    upstream: _Tree = {"name": name, "url": url if "//" in url else f"https://{url}"}
    username, password = tree.text("proxy.username"), tree.text("proxy.password")
    if username and password:
        upstream |= {"username": username, "password": password}
        if "auth" not in config:
            upstream["public"] = True
            notes.append(
                f"proxy.username: whoever reaches the port may pull what it sees of {name}, as "
                "there; set upstreams[0].public to false and auth.htpasswd to end that"
            )
    config["upstreams"] = [upstream]
    # It asks upstream for each pull of a tag, too.
    config["pull_through"] = {"tag_seconds": 0}
    if not hub:
        notes.append(
            f"proxy.remoteurl: images of {name} are named with it, as in HOST/{name}/org/app; "
            "containerd's mirrors find them as before, by their ?ns="
        )


def _operation(tree: Tree, config: _Tree, notes: list[str]) -> None:
    formatter = tree.text("log.formatter")
    if formatter in ("json", "logstash"):
        config["log"] = {"format": "json"}
    elif formatter not in (None, "text"):
        notes.append(f"log.formatter: there is no {formatter}; text or json")
    if tree.flag("http.debug.prometheus.enabled"):
        endpoint = tree.address("http.debug.addr", "127.0.0.1:5001")
        config["metrics"] = {"address": "0.0.0.0", **endpoint}  # noqa: S104 - as it listens there
        if tree.text("http.debug.prometheus.path") not in (None, "/metrics"):
            notes.append("http.debug.prometheus.path: the path is /metrics")
    drain = tree.duration("http.draintimeout")
    if drain:
        config["limits"] = {"shutdown_seconds": drain}


def _notifications(tree: Tree, config: _Tree, _notes: list[str]) -> None:
    webhooks = []
    for number, one in enumerate(tree.list("notifications.endpoints")):
        where = f"notifications.endpoints[{number}]"
        if not isinstance(one, dict):
            raise tree.error(where, "a mapping", one)
        endpoint = Tree(one, where)
        if not endpoint.flag("disabled"):
            webhooks.append(_webhook(endpoint))
    if webhooks:
        config["notifications"] = webhooks


def _webhook(endpoint: Tree) -> _Tree:
    webhook: _Tree = {"name": endpoint.text("name"), "url": endpoint.text("url")}
    headers = {
        key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in endpoint.section("headers").items()
    }
    told = {
        "headers": headers,
        "timeout_seconds": endpoint.duration("timeout"),
        "retry_seconds": endpoint.duration("backoff"),
        "ignore_media_types": endpoint.list("ignoredmediatypes")
        + endpoint.list("ignore.mediatypes"),
        "ignore_actions": endpoint.list("ignore.actions"),
    }
    return webhook | {key: value for key, value in told.items() if value}


def _redirects(tree: Tree, config: _Tree, notes: list[str]) -> None:
    """Take the middleware of storage that sends clients elsewhere."""
    for one in tree.list("middleware.storage"):
        options = one.get("options") if isinstance(one, dict) else None
        if not isinstance(options, dict) or not options or one.get("disabled"):
            continue
        name = str(one.get("name"))
        where = f"middleware.storage.{name}"
        take = {"redirect": _base_url, "cloudfront": _cloudfront}.get(name)
        if take is None:
            notes.append(f"{where}: {_MISSING['middleware']}")
        elif not isinstance(config["storage"], dict):
            notes.append(f"{where}: clients are sent elsewhere where a service has the blobs")
        else:
            redirect = config["storage"].setdefault("redirect", {})
            redirect |= take(Tree(options, where), where, notes)


def _base_url(options: Tree, _where: str, _notes: list[str]) -> _Tree:
    return {"base_url": options.text("baseurl")}


def _cloudfront(options: Tree, where: str, notes: list[str]) -> _Tree:
    names = ("baseurl", "privatekey", "keypairid")
    found: _Tree = {name: value for name in names if (value := options.text(name))}
    duration = options.duration("duration")
    if duration:
        found["duration"] = duration
    for key in options.left():
        if key != "ipfilteredby" or str(options.take(key)).lower() != "none":
            notes.append(f"{where}.{key}: {_MISSING['middleware.storage.cloudfront']}")
    return {"cloudfront": found}


_SECTIONS: tuple[Callable[[Tree, _Tree, list[str]], None], ...] = (
    _endpoint,
    _storage,
    _tls,
    _acme,
    _auth,
    _proxy,
    _redirects,
    _operation,
    _notifications,
)
