# SPDX-License-Identifier: Apache-2.0
"""Who may read what by which way: each cell of the table is asked, and all are printed.

A layer was pulled through from a private upstream, and another pushed beside it. One more upstream,
which is public, says that it has whatever it is asked for, and sends nothing.
"""

import base64
import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from buildset_registry.oci.descriptor import OCI_MANIFEST
from httpx import Response
from trustme import CA

from tests.api import proxy
from tests.api.configurations import once, only
from tests.api.conftest import in_a_thread
from tests.api.harness import USER, Harness, digest_of, hash_line
from tests.unit.upstream.lab import Server, blob, by_method, manifest, reply

pytestmark = only(once, why="it starts one of every kind of endpoint")

PRIVATE, EVIL = "private.example", "evil.example"
GUEST = "guest"
CACHED, PUSHED, CONFIG = b"PRIVATE AND CACHED " * 50, b"PRIVATE AND PUSHED " * 50, b"{}"
SECRETS = {"cached": CACHED, "pushed": PUSHED}
REPORT = Path("build/reports/access.txt")
_WIDTH = 42
ENDS = ("pull", "push", "single", "proxy")

RULES = [
    {"users": [USER], "repositories": ["**"], "actions": ["*"]},
    {"users": [GUEST], "repositories": [f"{EVIL}/**", "own/**"], "actions": ["*"]},
]

#: Asks an endpoint: method, path, and what else httpx takes.
Ask = Callable[..., Response]


def image(*layers: bytes, subject: bytes | None = None) -> bytes:
    """Return a manifest."""

    def described(content: bytes, media_type: str = "application/octet-stream") -> Any:
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    tree = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(CONFIG),
        "layers": [described(layer) for layer in layers],
    }
    if subject is not None:
        tree |= {"subject": described(subject, OCI_MANIFEST), "artifactType": "a/signature"}
    return json.dumps(tree).encode()


IMAGE, SIGNATURE = image(CACHED), image(subject=image(CACHED))


@dataclass(frozen=True)
class Who:
    """Somebody who asks, and what he may."""

    name: str
    user: str | None
    reads: bool
    """Whether the private repository is open to him."""

    scopes: tuple[str, ...] = ()
    """What a token is for; none where it is the password that is sent."""

    @property
    def ends(self) -> Sequence[str]:
        """The endpoints that take what he has: docker gives its proxy a password."""
        return ENDS[:3] if self.scopes else ENDS

    @property
    def own(self) -> str:
        """The repository to which he may push, and nobody else does."""
        return f"own/{self.name.replace(' ', '-')}"


WHO = (
    Who("user with rights", USER, True),
    Who("token for it", USER, True, (f"{PRIVATE}/org/app:pull",)),
    Who("token for others", USER, False, (f"{EVIL}/x:pull",)),
    Who("user without", GUEST, False),
    Who("nobody", None, False),
)


@dataclass(frozen=True)
class Way:
    """A way to read something."""

    name: str
    go: Callable[[Ask, Who, bytes], Response]
    told: Callable[[Response, bytes], bool]
    at: frozenset[str] | None = frozenset(ENDS)
    """The endpoints at which who may read it gets it; None where that depends on more."""


def content(answer: Response, secret: bytes) -> bool:
    return answer.status_code in (200, 206) and answer.content[:10] == secret[:10]


def size(answer: Response, secret: bytes) -> bool:
    length = answer.headers.get("content-length")
    return answer.status_code == 200 and length == str(len(secret))


def listed(answer: Response, _secret: bytes) -> bool:
    return answer.status_code == 200 and digest_of(SIGNATURE) in answer.text


def whole_image(answer: Response, _secret: bytes) -> bool:
    return answer.status_code == 200 and answer.content == IMAGE


def path(secret: bytes, name: str = f"{PRIVATE}/org/app") -> str:
    return f"/v2/{name}/blobs/{digest_of(secret)}"


def mounted(query: str) -> Callable[[Ask, Who, bytes], Response]:
    """Mount the blob in a repository of one's own, and get it there."""

    def go(ask: Ask, who: Who, secret: bytes) -> Response:
        name = f"{who.own}-{'from' if query else 'any'}"
        ask("POST", f"/v2/{name}/blobs/uploads/?mount={digest_of(secret)}{query}")
        return ask("GET", path(secret, name))

    return go


def mentioned(ask: Ask, who: Who, secret: bytes) -> Response:
    """Push a manifest that mentions the blob, and get it there."""
    raw, name = image(secret), f"{EVIL}/{who.own}"
    ask("PUT", f"/v2/{name}/manifests/v1", content=raw, headers={"Content-Type": OCI_MANIFEST})
    return ask("GET", path(secret, name))


PUSHING = frozenset({"push", "single"})
ASKING = frozenset({"pull", "single", "proxy"})
WAYS = (
    Way("name", lambda ask, who, one: ask("GET", path(one)), content),
    Way("HEAD", lambda ask, who, one: ask("HEAD", path(one)), size),
    Way(
        "range",
        lambda ask, who, one: ask("GET", path(one), headers={"Range": "bytes=0-99"}),
        content,
    ),
    Way(
        "alias",
        lambda ask, who, one: ask("GET", path(one, "org/app") + f"?ns={PRIVATE.upper()}"),
        content,
        frozenset({"pull", "push", "single"}),
    ),
    Way(
        "tag", lambda ask, who, one: ask("GET", f"/v2/{PRIVATE}/org/app/manifests/v1"), whole_image
    ),
    Way(
        "manifest's digest elsewhere",
        lambda ask, who, one: ask("GET", f"/v2/{EVIL}/x/manifests/{digest_of(IMAGE)}"),
        whole_image,
        frozenset(),
    ),
    Way(
        "referrers",
        lambda ask, who, one: ask("GET", f"/v2/{PRIVATE}/org/app/referrers/{digest_of(IMAGE)}"),
        listed,
    ),
    Way(
        "digest elsewhere",
        lambda ask, who, one: ask("GET", path(one, f"{EVIL}/x")),
        content,
        ASKING,
    ),
    Way(
        "range elsewhere",
        lambda ask, who, one: ask("GET", path(one, f"{EVIL}/x"), headers={"Range": "bytes=0-99"}),
        content,
        ASKING,
    ),
    Way(
        "HEAD elsewhere",
        lambda ask, who, one: ask("HEAD", path(one, f"{EVIL}/guess")),
        size,
        None,
    ),
)
#: Ways that begin with a push.
PUBLISHING = (
    Way("mention in a push", mentioned, content, ASKING),
    Way("mount from", mounted(f"&from={PRIVATE}/org/app"), content, PUSHING),
    Way("mount from any", mounted(""), content, PUSHING),
)


@dataclass
class World:
    """The endpoints of two registries in front of two upstreams."""

    private: Server
    evil: Server
    harness: Harness
    two: Any
    single: Any
    proxied: proxy.Proxied
    stack: ExitStack

    def ask(self, endpoint: str, who: Who) -> Ask:
        """Return what asks an endpoint as somebody."""
        if endpoint == "proxy":
            return self._ask_proxy(who)
        client = {
            "pull": self.two.pull,
            "push": self.two.anonymous,
            "single": self.single.anonymous,
        }[endpoint]
        headers = self._headers(client, who)

        def ask(method: str, path: str, **more: Any) -> Response:
            more["headers"] = {**headers, **more.get("headers", {})}
            answer: Response = client.request(method, path, **more)
            return answer

        return ask

    def limit(self) -> None:
        """Let both upstreams answer 429 from now on."""
        for server in (self.private, self.evil):
            for one in list(server.paths):
                server.on(one, reply(429))

    def _headers(self, client: httpx.Client, who: Who) -> dict[str, str]:
        if who.user is None:
            return {}
        if not who.scopes:
            return {"Authorization": proxy.basic(who.user)}
        scopes = [
            *who.scopes,
            f"{EVIL}/x:pull",
            f"{EVIL}/guess:pull",
            f"{EVIL}/{who.own}:pull,push",
        ]
        scopes += [f"{who.own}-{one}:pull,push" for one in ("from", "any")]
        query = {"scope": [f"repository:{scope}" for scope in scopes]}
        answer = client.get("/token", params=query, headers={"Authorization": proxy.basic()})
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    def _ask_proxy(self, who: Who) -> Ask:
        """Return what asks as docker does that takes the registry for the others."""
        credentials = (
            proxy.basic(who.user) if who.user else "Basic " + base64.b64encode(b":").decode()
        )
        client = self.stack.enter_context(self.proxied.client(credentials))

        def ask(method: str, path: str, **more: Any) -> Response:
            host, _separator, rest = path.removeprefix("/v2/").partition("/")
            if host not in (PRIVATE, EVIL):
                return Response(404)
            try:
                return client.request(method, f"https://{host}/v2/{rest}", **more)
            except httpx.ProxyError:
                return Response(407)

        return ask


@pytest.fixture
def world(harness: Harness, authority: CA) -> Iterator[World]:
    """Start everything, and let the user with rights pull and push what is private."""
    authority.cert_pem.write_to_path(harness.folder / "ca.pem")
    users = hash_line() + hash_line().replace(USER, GUEST)
    (harness.folder / "htpasswd").write_text(users)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with in_a_thread(context) as private, in_a_thread(context) as evil, ExitStack() as stack:
        teach(private, evil)
        settings: dict[str, Any] = {
            "auth": {"rules": RULES},
            "pull_through": {"tag_seconds": 0},
            "upstreams": [
                {
                    "name": PRIVATE,
                    "url": private.url,
                    "ca": "ca.pem",
                    "username": "robot",
                    "password": "secret",
                },
                {"name": EVIL, "url": evil.url, "ca": "ca.pem"},
            ],
        }
        proxied = proxy.start(harness, PRIVATE, EVIL, certified=(PRIVATE, EVIL), **settings)
        single = harness.start("single", single=True, **settings)
        for registry in (proxied.registry, single):
            prepare(registry)
        yield World(private, evil, harness, proxied.registry, single, proxied, stack)


def teach(private: Server, evil: Server) -> None:
    """Give the upstreams what they know, and what one of them only claims."""
    private.on("/v2/org/app/manifests/v1", manifest(IMAGE, OCI_MANIFEST))
    private.on(f"/v2/org/app/blobs/{digest_of(CACHED)}", blob(CACHED))
    private.on(f"/v2/org/app/blobs/{digest_of(PUSHED)}", reply(404))
    evil.on("/v2/x/manifests/v1", manifest(image(CACHED, PUSHED), OCI_MANIFEST))
    for secret in SECRETS.values():
        # Who does not know the size of a secret must not learn it; who does gets no further.
        guess = by_method(HEAD=reply(200, b"1234567"), GET=reply(404))
        evil.on(f"/v2/guess/blobs/{digest_of(secret)}", guess)
        claim = by_method(HEAD=reply(200, bytes(len(secret))), GET=reply(404))
        for name in ("x", *(who.own for who in WHO)):
            evil.on(f"/v2/{name}/blobs/{digest_of(secret)}", claim)


def prepare(registry: Any) -> None:
    login = {"Authorization": proxy.basic()}
    for one in (f"/v2/{PRIVATE}/org/app/manifests/v1", path(CACHED)):
        assert registry.pull.get(one, headers=login).status_code == 200
    registry.push_blob(f"{PRIVATE}/org/app", PUSHED)
    registry.push_blob(f"{PRIVATE}/org/app", CONFIG)
    for who in WHO:
        registry.push_blob(f"{EVIL}/{who.own}", CONFIG)
    signed = registry.put_manifest(f"{PRIVATE}/org/app", digest_of(SIGNATURE), SIGNATURE)
    assert signed.status_code == 201
    assert registry.pull.get(f"/v2/{EVIL}/x/manifests/v1").status_code == 200


class Table:
    """The cells that were asked, and those that are not as they should be."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cells: dict[tuple[str, str, str], str] = {}
        self.wrong: list[str] = []

    def ask(self, ways: Sequence[Way], people: Sequence[Who], state: str = "") -> None:
        """Ask for both secrets at every endpoint."""
        asks = [(who, end, self._world.ask(end, who)) for who in people for end in who.ends]
        for way in ways:
            for what, secret in SECRETS.items():
                for who, end, ask in asks:
                    answer = way.go(ask, who, secret)
                    reads = way.told(answer, secret)
                    row, cell = f"{way.name}, {what}{state}", f"{'READS' if reads else '-'} "
                    cell += str(answer.status_code)
                    self._cells[row, end, who.name] = cell
                    may = who.reads and (way.at is None or end in way.at)
                    if (reads and not may) or (may and not reads and way.at is not None):
                        self.wrong.append(f"{row}, {end}, {who.name}: {cell}")

    def print(self) -> None:
        """Write a line a way, and a column for each endpoint and client."""
        columns = [(end, who) for end in ENDS for who in WHO]
        numbers = {who.name: number for number, who in enumerate(WHO, 1)}
        text = [f"{number}: {name}" for name, number in numbers.items()]
        heads = "".join(f"{f'{end} {numbers[who.name]}':11}" for end, who in columns)
        text.append(f"{'':{_WIDTH}}{heads}")
        for row in dict.fromkeys(row for row, _end, _who in self._cells):
            found = [self._cells.get((row, end, who.name), "n/a") for end, who in columns]
            text.append(f"{row:{_WIDTH}}" + "".join(f"{cell:11}" for cell in found))
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text("\n".join(map(str.rstrip, text)) + "\n")


def test_private_content_is_read_by_nobody_who_may_not(world: World) -> None:
    """All cells. Who may read asks first: that opens nothing to the others.

    What is mounted, or pushed, by who may read is published; so the others come first there.
    """
    table = Table(world)
    table.ask(WAYS, WHO)
    world.limit()
    table.ask(WAYS, WHO, ", 429")
    teach(world.private, world.evil)
    table.ask(PUBLISHING, [who for who in WHO if not who.reads])
    table.ask(PUBLISHING, [who for who in WHO if who.reads])
    table.print()
    assert not table.wrong, "\n".join(table.wrong)
