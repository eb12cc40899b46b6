# SPDX-License-Identifier: Apache-2.0
"""Swift with Keystone: one proxy, one server of each kind of storage, one copy of everything."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import httpx

from tests.ports import free_port
from tests.roles.harness import locked
from tests.stores import programs
from tests.stores.process import answers, listens, running
from tests.stores.servers import fresh_name

_TEMPLATES = Path(__file__).parent / "templates"
_KINDS = ("account", "container", "object")
_ADMIN = "admin"
#: What makes a fresh Keystone; the same for all, so it is kept beside the program.
_SEEDED = (
    ("db_sync",),
    ("fernet_setup", "--keystone-user", "{user}", "--keystone-group", "{group}"),
    ("credential_setup", "--keystone-user", "{user}", "--keystone-group", "{group}"),
    ("bootstrap", "--bootstrap-password", _ADMIN),
)
#: Keystone reads the words of the command itself, so there are none when it is imported.
_SERVE_KEYSTONE = """
import sys
import waitress
port = int(sys.argv.pop())
from keystone.wsgi.api import application
waitress.serve(application, host="127.0.0.1", port=port)
"""
_RING = """
import sys
from swift.common.ring import RingBuilder
for kind, port in zip(("account", "container", "object"), map(int, sys.argv[1:])):
    builder = RingBuilder(4, 1, 1)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1}
    builder.add_dev(place)
    builder.rebalance()
    builder.get_ring().save(kind + ".ring.gz")
"""


class Keystone:
    """Keystone's API, asked as its administrator."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._tokens: dict[tuple[str, str, str], str] = {}
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=60)
        self._client.headers["X-Auth-Token"] = self.token(_ADMIN, _ADMIN, _ADMIN)

    def token(self, user: str, password: str, project: str) -> str:
        """Get a token with a user name and password."""
        domain = {"domain": {"id": "default"}}
        who = {"name": user, "password": password, **domain}
        identity = {"methods": ["password"], "password": {"user": who}}
        scope = {"project": {"name": project, **domain}}
        content = {"auth": {"identity": identity, "scope": scope}}
        answer = self._client.post("/auth/tokens", json=content)
        answer.raise_for_status()
        return answer.headers["X-Subject-Token"]

    def known_token(self, user: str, password: str, project: str) -> str:
        """Return a token that was got before."""
        key = (user, password, project)
        if key not in self._tokens:
            self._tokens[key] = self.token(*key)
        return self._tokens[key]

    def make(self, kind: str, path: str = "", token: str = "", **fields: Any) -> dict[str, Any]:
        """Make something, and return what Keystone says of it."""
        headers = {"X-Auth-Token": token} if token else {}
        answer = self._client.post(f"{path}/{kind}s", json={kind: fields}, headers=headers)
        answer.raise_for_status()
        made: dict[str, Any] = answer.json()[kind]
        return made

    def grant(self, project: str, user: str, role: str) -> None:
        """Give a user a role in a project."""
        roles = self._client.get("/roles", params={"name": role}).json()["roles"]
        path = f"/projects/{project}/users/{user}/roles/{roles[0]['id']}"
        self._client.put(path).raise_for_status()

    def revoke(self, token: str) -> None:
        """Make a token worthless before its time."""
        headers = {"X-Subject-Token": token}
        self._client.delete("/auth/tokens", headers=headers).raise_for_status()

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()


@dataclass(frozen=True)
class Swift:
    """A Swift that takes the passwords and application credentials of a Keystone."""

    auth_url: str
    storage_url: str
    """The account of the project."""

    project_id: str
    credential_id: str
    credential_secret: str
    password: str
    """Of ``username``, who may write, and of ``guest``, who may not do anything."""

    memcached: int
    """The port of what remembers tokens."""

    username: str = "registry"
    guest: str = "guest"
    project: str = "zuul"
    domain: str = "Default"
    region: str = "RegionOne"
    keystone: Keystone = field(repr=False, kw_only=True)

    def container(self) -> str:
        """Make a container that is empty."""
        name = fresh_name()
        self.ask("PUT", f"/{name}").raise_for_status()
        return name

    def settings(self, container: str, **more: object) -> dict[str, object]:
        """Return what a registry is told of a container, by distribution's names."""
        return {
            "authurl": self.auth_url,
            "username": self.username,
            "password": self.password,
            "tenant": self.project,
            "domain": self.domain,
            "region": self.region,
            "container": container,
            **more,
        }

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to the account as the user that may write."""
        headers = {"X-Auth-Token": self.token(), **options.pop("headers", {})}
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.request(method, f"{self.storage_url}{path}", headers=headers, **options)

    def token(self) -> str:
        """Return a token of the user that may write, the same each time."""
        return self.keystone.known_token(self.username, self.password, self.project)

    def end_token(self, token: str) -> None:
        """Make a token worthless, also where it is remembered."""
        self.keystone.revoke(token)
        with socket.create_connection(("127.0.0.1", self.memcached), timeout=10) as connection:
            connection.sendall(b"flush_all\r\n")
            assert connection.recv(100) == b"OK\r\n"


@contextmanager
def swift(folder: Path) -> Iterator[Swift]:
    """Run Swift and Keystone in a folder."""
    root = folder / "swift"
    shutil.copytree(_seed(), root)
    secret = secrets.token_hex(16)
    with ExitStack() as stack:
        memcached, keystone, proxy = free_port(), free_port(), free_port()
        words = ["-l", "127.0.0.1", "-p", str(memcached), "-U", "0", "-m", "16"]
        words += ["-u", getpass.getuser()]
        stack.enter_context(
            running(["memcached", *words], root / "memcached.log", listens(memcached))
        )
        url = f"http://127.0.0.1:{keystone}/v3"
        stack.enter_context(_keystone(root, keystone))
        api = Keystone(url)
        stack.callback(api.close)
        described = _populate(api, f"http://127.0.0.1:{proxy}", secret, memcached)
        for server in _storage(root):
            stack.enter_context(server)
        _write(
            *(root, "proxy.conf", "proxy.conf"),
            port=proxy,
            memcached=f"127.0.0.1:{memcached}",
            keystone=url,
            secret=secret,
        )
        command = [str(programs.swift() / "bin" / "swift-proxy-server"), "proxy.conf", "-v"]
        ready = answers(f"http://127.0.0.1:{proxy}/healthcheck")
        stack.enter_context(running(command, root / "proxy.log", ready, _quiet()))
        yield described


def _storage(root: Path) -> Iterator[Any]:
    """Start the servers of storage, one after another."""
    for name in ("run", "node/d1"):
        (root / name).mkdir(parents=True)
    place = programs.swift() / "bin"
    ports = {kind: free_port() for kind in _KINDS}
    _write(root, "swift.conf", "swift.conf")
    ring = [str(place / "python"), "-c", _RING, *map(str, ports.values())]
    subprocess.run(ring, cwd=root, check=True, capture_output=True, env=_environment())
    for kind, port in ports.items():
        _write(root, "node.conf", f"{kind}.conf", kind=kind, port=port)
        command = [str(place / f"swift-{kind}-server"), f"{kind}.conf", "-v"]
        yield running(command, root / f"{kind}.log", listens(port), _quiet())


def _keystone(root: Path, port: int) -> Any:
    """Start Keystone over what the seed holds."""
    config = _write(root, "keystone.conf", "keystone.conf")
    command = [str(programs.swift() / "bin" / "python"), "-c", _SERVE_KEYSTONE, str(port)]
    environment = {"OS_KEYSTONE_CONFIG_FILES": str(config), **_quiet()}
    ready = answers(f"http://127.0.0.1:{port}/v3")
    return running(command, root / "keystone-server.log", ready, environment)


def _populate(keystone: Keystone, storage: str, secret: str, memcached: int) -> Swift:
    """Give Keystone the project, its users, Swift's own user and where Swift is."""
    domain = {"domain_id": "default"}
    service, project = (
        keystone.make("project", name=name, **domain)["id"] for name in ("service", Swift.project)
    )
    users = {
        name: keystone.make("user", name=name, password=secret, **domain)["id"]
        for name in ("swift", Swift.username, Swift.guest)
    }
    keystone.grant(service, users["swift"], "admin")
    keystone.grant(project, users[Swift.username], "member")
    keystone.grant(project, users[Swift.guest], "reader")
    for kind, url in (
        ("object-store", f"{storage}/v1/AUTH_%(tenant_id)s"),
        ("identity", keystone.url),
    ):
        made = keystone.make("service", type=kind, name=kind)
        place = {"interface": "public", "region_id": Swift.region}
        keystone.make("endpoint", service_id=made["id"], url=url, **place)
    token = keystone.token(Swift.username, secret, Swift.project)
    path = f"/users/{users[Swift.username]}"
    made = keystone.make("application_credential", path, token, name="registry")
    return Swift(
        auth_url=keystone.url,
        storage_url=f"{storage}/v1/AUTH_{project}",
        project_id=project,
        credential_id=made["id"],
        credential_secret=made["secret"],
        password=secret,
        memcached=memcached,
        keystone=keystone,
    )


def _seed() -> Path:
    """Return a Keystone that is fresh, made once."""
    place = programs.swift()
    folder = place / "seed"
    with locked(f"{place.name}-seed"):
        if not (place / "seeded").exists():
            shutil.rmtree(folder, ignore_errors=True)
            for name in ("fernet", "credentials"):
                (folder / name).mkdir(mode=0o700, parents=True)
            config = _write(folder, "keystone.conf", "keystone.conf")
            manage = [str(place / "bin" / "keystone-manage"), "--config-file", str(config)]
            names = {"user": getpass.getuser(), "group": getpass.getuser()}
            for words in _SEEDED:
                told = [word.format(**names) for word in words]
                region = ["--bootstrap-region-id", Swift.region] if "bootstrap" in words else []
                command = [*manage, *told, *region]
                subprocess.run(command, check=True, capture_output=True, env=_environment())
            (place / "seeded").touch()
    return folder


def _write(root: Path, template: str, name: str, **values: object) -> Path:
    """Write a configuration from its template."""
    text = (_TEMPLATES / template).read_text()
    path = root / name
    path.write_text(Template(text).substitute(root=root, user=getpass.getuser(), **values))
    return path


def _quiet() -> dict[str, str]:
    return {"PYTHONWARNINGS": "ignore"}


def _environment() -> dict[str, str]:
    return os.environ | _quiet()
