# SPDX-License-Identifier: Apache-2.0
"""Logging in: by password and by token, as the container tools do it; and who is refused."""

import hashlib
import hmac
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bcrypt
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from httpx import Client, Response

from tests.api.configurations import on_disk, only, single_port
from tests.api.harness import PASSWORD, USER, Harness, Registry, code, digest_of, hash_line
from tests.waiting import wait_until

KEY = b"k" * 64
CONTENT = b"content"
DIGEST = digest_of(CONTENT)
UPLOADS = "/v2/org/app/blobs/uploads/"
ONE_POST = f"{UPLOADS}?digest={DIGEST}"
PUSH = "repository:org/app:pull,push"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def get_token(
    client: Client, scope: list[str] | str, auth: tuple[str, str] | None = None, **query: str
) -> dict[str, Any]:
    """Get a token as docker does."""
    answer = client.get(
        "/token", params={"service": "buildset-registry", "scope": scope, **query}, auth=auth
    )
    assert answer.status_code == 200, answer.text
    grant: dict[str, Any] = answer.json()
    return grant


def post_form(client: Client, **form: str | list[str]) -> Response:
    """Ask for a token as containerd does."""
    return client.post("/token", data={"service": "buildset-registry", "client_id": "test", **form})


one_port = only(single_port, why="one port asks for tokens where two ask for passwords")


@pytest.fixture
def single(harness: Harness) -> Registry:
    """A registry on one port, whose tokens outlive it."""
    (harness.folder / "token.key").write_bytes(KEY)
    return harness.start(auth={"token_key": "token.key"})


@one_port
def test_one_port_asks_for_a_token(single: Registry) -> None:
    """Anonymous pulls and pushes by password on one port take the token protocol."""
    single.push_blob("org/app", CONTENT)
    challenge = single.anonymous.get("/v2/").headers["www-authenticate"]
    host = f"https://127.0.0.1:{single.pull.base_url.port}"
    assert challenge == f'Bearer realm="{host}/token",service="buildset-registry"'
    refused = single.anonymous.post(UPLOADS)
    assert refused.status_code == 401
    assert 'scope="repository:org/app:pull,push"' in refused.headers["www-authenticate"]
    nobody = get_token(single.anonymous, "repository:org/app:pull")
    pulled = single.anonymous.get(f"/v2/org/app/blobs/{DIGEST}", headers=bearer(nobody["token"]))
    assert pulled.content == CONTENT
    assert single.anonymous.get("/v2/", headers=bearer(nobody["token"])).status_code == 200


@one_port
def test_a_token_by_get_pushes(single: Registry) -> None:
    """What docker, podman and skopeo do; its life is in the answer."""
    grant = get_token(single.anonymous, PUSH, (USER, PASSWORD))
    assert grant["token"] == grant["access_token"]
    assert grant["expires_in"] == 300
    assert "refresh_token" not in grant
    pushed = single.anonymous.post(ONE_POST, content=CONTENT, headers=bearer(grant["token"]))
    assert pushed.status_code == 201


@one_port
def test_a_login_that_is_not_ascii_is_refused(single: Registry) -> None:
    """As any other that is malformed; a client may send whatever bytes it likes (RFC 9110, 5.5)."""
    for header in (b"Basic \xe9", b"Basic YTpi\xff", b"Bearer \xe9"):
        answer = single.anonymous.get("/v2/", headers={b"Authorization": header})
        assert (answer.status_code, code(answer)) == (401, "UNAUTHORIZED")


@one_port
def test_a_token_for_less_asks_for_more(single: Registry) -> None:
    """A pull token does not push, delete, or open another repository; the scope says what would."""
    token = get_token(single.anonymous, "repository:org/app:pull", (USER, PASSWORD))["token"]
    for method, path, scope in [
        ("POST", UPLOADS, "repository:org/app:pull,push"),
        ("DELETE", f"/v2/org/app/blobs/{DIGEST}", "repository:org/app:delete"),
        ("GET", "/v2/org/other/tags/list", "repository:org/other:pull"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
    ]:
        answer = single.anonymous.request(method, path, headers=bearer(token))
        assert (answer.status_code, code(answer)) == (401, "UNAUTHORIZED"), path
        challenge = answer.headers["www-authenticate"]
        assert f'scope="{scope}"' in challenge
        assert 'error="insufficient_scope"' in challenge


@one_port
def test_guesses_from_one_address_keep_nobody_there_out(harness: Harness) -> None:
    """Behind a proxy all have one; a right password is checked soon, whatever others send."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(8)).decode()
    users = [f"user{number}" for number in range(5)]
    (harness.folder / "htpasswd").write_text("".join(f"{user}:{hashed}\n" for user in users))
    registry = harness.start()
    together = threading.Barrier(45)

    def log_in(user: str, password: str, after: float = 0) -> int:
        with httpx.Client(
            base_url=registry.push.base_url, verify=harness.trusted, timeout=30
        ) as client:
            client.get("/v2/")
            together.wait(60)
            time.sleep(after)
            return client.post(UPLOADS, auth=(user, password)).status_code

    with ThreadPoolExecutor(45) as pool:
        wrong = [pool.submit(log_in, f"x{number}", "y") for number in range(40)]
        right = [
            pool.submit(log_in, user, PASSWORD, 0.05 * number) for number, user in enumerate(users)
        ]
        assert [one.result() for one in right] == [202] * 5
        assert {one.result() for one in wrong} == {401}


@one_port
def test_a_refresh_token_instead_of_the_password(single: Registry) -> None:
    """docker keeps what ``offline_token=true`` got it, and asks with that from then on."""
    kept = get_token(single.anonymous, [], (USER, PASSWORD), offline_token="true")["refresh_token"]
    answer = post_form(single.anonymous, grant_type="refresh_token", refresh_token=kept, scope=PUSH)
    assert answer.status_code == 200, answer.text
    assert answer.json()["refresh_token"] == kept
    headers = bearer(answer.json()["access_token"])
    assert single.anonymous.post(ONE_POST, content=CONTENT, headers=headers).status_code == 201
    assert single.anonymous.get("/v2/", headers=bearer(kept)).status_code == 401


@one_port
def test_a_token_by_post(single: Registry) -> None:
    """What containerd and buildkit do."""
    login = {"grant_type": "password", "username": USER, "password": PASSWORD, "scope": PUSH}
    grant = post_form(single.anonymous, **login, access_type="offline").json()
    assert grant["refresh_token"]
    headers = bearer(grant["access_token"])
    assert single.anonymous.post(ONE_POST, content=CONTENT, headers=headers).status_code == 201
    assert "refresh_token" not in post_form(single.anonymous, **login).json()
    wrong = post_form(single.anonymous, **{**login, "password": "wrong"})
    assert (wrong.status_code, code(wrong)) == (401, "UNAUTHORIZED")
    other = post_form(single.anonymous, grant_type="authorization_code", code="x")
    assert (other.status_code, code(other)) == (405, "UNSUPPORTED")


@one_port
def test_a_refresh_token_ends_with_its_password(single: Registry, harness: Harness) -> None:
    """A changed file takes effect, for passwords and for what was got by them."""
    kept = get_token(single.anonymous, [], (USER, PASSWORD), offline_token="true")["refresh_token"]
    change_password(harness, "changed")
    wait_until(lambda: single.push.post(UPLOADS).status_code == 401, "the change takes effect")
    assert single.anonymous.post(UPLOADS, auth=(USER, "changed")).status_code == 202
    answer = post_form(single.anonymous, grant_type="refresh_token", refresh_token=kept)
    assert (answer.status_code, code(answer)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("left", ["", "other:$2b$04$x\n"], ids=["changed", "removed"])
@one_port
def test_a_token_ends_with_its_user(single: Registry, harness: Harness, left: str) -> None:
    """Within seconds, not when its five minutes are over; that of nobody goes on."""
    headers = bearer(get_token(single.anonymous, PUSH, (USER, PASSWORD))["token"])
    nobody = bearer(get_token(single.anonymous, "repository:org/app:pull")["token"])
    assert single.anonymous.post(ONE_POST, content=CONTENT, headers=headers).status_code == 201
    change_password(harness, "changed")
    if left:
        (harness.folder / "htpasswd").write_text(left)
    wait_until(
        lambda: single.anonymous.post(UPLOADS, headers=headers).status_code == 401, "it ends"
    )
    answer = single.anonymous.post(UPLOADS, headers=headers)
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    for path in ("/v2/", f"/v2/org/app/blobs/{DIGEST}"):
        assert single.anonymous.get(path, headers=headers).status_code == 401
        assert single.anonymous.get(path, headers=nobody).status_code == 200


def test_a_token_gives_no_more_than_its_user_has_now(harness: Harness) -> None:
    """The rules of today count, also where the key outlives those by which it was issued."""
    (harness.folder / "token.key").write_bytes(KEY)
    everything = [{"repositories": ["**"], "actions": ["*"]}]
    auth = {"token_key": "token.key", "anonymous_pull": False}
    before = harness.start("before", single=True, auth={**auth, "rules": everything})
    scopes = ["repository:org/app:pull,push,delete", "registry:catalog:*"]
    headers = bearer(get_token(before.anonymous, scopes, (USER, PASSWORD))["token"])
    assert before.anonymous.post(UPLOADS, headers=headers).status_code == 202
    rules = [{"repositories": ["org/app"], "actions": ["pull"]}]
    after = harness.start("after", single=True, auth={**auth, "rules": rules})
    for method, path, status in [
        ("POST", UPLOADS, 401),
        ("DELETE", f"/v2/org/app/blobs/{DIGEST}", 401),
        ("GET", "/v2/_catalog", 401),
        ("GET", f"/v2/org/app/blobs/{DIGEST}", 404),
    ]:
        answer = after.anonymous.request(method, path, headers=headers)
        assert answer.status_code == status, path
        if status == 401:
            assert "log in" not in answer.text
            assert "(auth.rules)" in answer.text


@one_port
def test_a_form_may_repeat_its_scope(single: Registry) -> None:
    """As a query may; a scope that was dropped would be missed at the push only."""
    scopes = [f"repository:org/{name}:pull,push" for name in ("a", "b")]
    login = {"grant_type": "password", "username": USER, "password": PASSWORD}
    answer = post_form(single.anonymous, **login, scope=scopes)
    headers = bearer(answer.json()["access_token"])
    for name in ("a", "b"):
        path = f"/v2/org/{name}/blobs/uploads/"
        assert single.anonymous.post(path, headers=headers).status_code == 202


def test_words_for_who_lacks_a_right(harness: Harness) -> None:
    """Who is logged in is not told to log in, and each sentence is one."""
    registry = harness.start(single=True, auth={"rules": RULES[1:], "anonymous_pull": False})
    token = get_token(registry.anonymous, "repository:org/app:pull,push", (USER, PASSWORD))
    headers = bearer(token["token"])
    for path, words in [
        ("/v2/other/blobs/uploads/", "buildset may not push other, by no token (auth.rules)"),
        ("/v2/tmp/a/blobs/uploads/", "this token is not one to push tmp/a; get one with the scope"),
    ]:
        answer = registry.anonymous.post(path, headers=headers)
        assert answer.status_code == 401
        assert words in answer.text
    answer = registry.anonymous.get("/v2/_catalog", headers=headers)
    assert "buildset may not list the repositories, by no token (auth.rules)" in answer.text
    refused = harness.start("basic", auth={"rules": RULES[1:], "anonymous_pull": False})
    answer = refused.push.get("/v2/_catalog")
    assert answer.status_code == 403
    assert "buildset may not list the repositories (auth.rules)" in answer.text


def change_password(harness: Harness, password: str) -> None:
    file = harness.folder / "htpasswd"
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    file.write_text(f"{USER}:{hashed}\n")
    later = file.stat().st_mtime_ns + 1_000_000_000
    os.utime(file, ns=(later, later))


@one_port
def test_no_refresh_token_without_a_key_that_lasts(harness: Harness) -> None:
    """A client would be locked out by a restart of the server."""
    registry = harness.start()
    assert "refresh_token" not in get_token(
        registry.anonymous, [], (USER, PASSWORD), offline_token="true"
    )


def forged(key: Any, algorithm: str = "HS256", **changes: object) -> str:
    now = int(time.time())
    claims = {
        "iss": "buildset-registry",
        "aud": "buildset-registry",
        "sub": USER,
        "nbf": now,
        "exp": now + 60,
        "access": [{"type": "repository", "name": "org/app", "actions": ["pull", "push"]}],
        "mark": hmac.new(KEY, hash_line().strip().encode(), hashlib.sha256).hexdigest(),
    }
    return jwt.encode({**claims, **changes}, key, algorithm)


@pytest.mark.parametrize(
    "token",
    [
        forged(b"x" * 64),
        forged(None, "none"),
        forged(KEY, exp=int(time.time()) - 1),
        forged(KEY, aud="another registry"),
        forged(KEY, "HS512"),
        forged(KEY, sub="nobody"),
        forged(KEY, mark=None),
        "nonsense",
    ],
    ids=["key", "none", "expired", "audience", "algorithm", "user", "no password", "nonsense"],
)
@one_port
def test_a_forged_token_is_refused(single: Registry, token: str) -> None:
    """Everywhere, also where nobody needs one."""
    for method, path in [("POST", UPLOADS), ("GET", "/v2/"), ("GET", "/v2/org/app/tags/list")]:
        answer = single.anonymous.request(method, path, headers=bearer(token))
        assert (answer.status_code, code(answer)) == (401, "UNAUTHORIZED")
        challenge = answer.headers["www-authenticate"]
        assert 'error="invalid_token"' in challenge
        if path != "/v2/":
            actions = "pull,push" if method == "POST" else "pull"
            assert f'scope="repository:org/app:{actions}"' in challenge


@one_port
def test_the_forgeries_are_good_otherwise(single: Registry) -> None:
    """So that each is refused for its own reason."""
    headers = bearer(forged(KEY))
    assert single.anonymous.post(ONE_POST, content=CONTENT, headers=headers).status_code == 201


@one_port
def test_a_token_of_another_registry_is_refused(harness: Harness, single: Registry) -> None:
    """Of the same program, with the same users, and a key of its own."""
    other = harness.start("other")
    token = get_token(other.anonymous, PUSH, (USER, PASSWORD))["token"]
    assert single.anonymous.post(UPLOADS, headers=bearer(token)).status_code == 401


RULES = [
    {"repositories": ["**"], "actions": ["pull"]},
    {"users": [USER], "repositories": ["org/app", "tmp/**"], "actions": ["push"]},
    {"users": [USER], "repositories": ["tmp/**"], "actions": ["*"]},
]


def test_rules_hold_users_to_their_repositories(harness: Harness) -> None:
    """What no rule gives is 403, and says who may not do what where."""
    registry = harness.start(auth={"rules": RULES})
    registry.push_blob("org/app", CONTENT)
    registry.push_blob("tmp/a/b", CONTENT)
    assert registry.push.delete(f"/v2/tmp/a/b/blobs/{DIGEST}").status_code == 202
    for method, path, message in [
        ("POST", "/v2/org/other/blobs/uploads/", "buildset may not push org/other"),
        ("DELETE", f"/v2/org/app/blobs/{DIGEST}", "buildset may not delete org/app"),
    ]:
        answer = registry.push.request(method, path)
        assert (answer.status_code, code(answer)) == (403, "DENIED")
        assert message in answer.text


@only(on_disk, why="it starts again on what was stored")
def test_a_blob_that_may_not_be_pulled_cannot_be_mounted(harness: Harness) -> None:
    """Not from its repository, nor from whichever has it: an upload begins instead."""
    both = [{"repositories": ["open/**", "closed/**"], "actions": ["*"]}]
    registry = harness.start(auth={"anonymous_pull": False, "rules": both})
    registry.push_blob("closed/app", CONTENT)
    registry.stop()
    one = [{"repositories": ["open/**"], "actions": ["*"]}]
    registry = harness.start(auth={"anonymous_pull": False, "rules": one})
    for query in ({"mount": DIGEST, "from": "closed/app"}, {"mount": DIGEST}):
        assert registry.push.post("/v2/open/app/blobs/uploads/", params=query).status_code == 202
    assert registry.push.get(f"/v2/open/app/blobs/{DIGEST}").status_code == 404


def test_clients_of_other_networks_are_refused(harness: Harness) -> None:
    """Whoever they say they are."""
    registry = harness.start(auth={"allowed_networks": ["192.0.2.0/24"]})
    answer = registry.push.get("/v2/")
    assert (answer.status_code, code(answer)) == (403, "DENIED")
    assert "127.0.0.1" in answer.text


def test_closed_pulls_need_a_login(harness: Harness) -> None:
    """With ``anonymous_pull: false`` foreign credentials do not help, either."""
    registry = harness.start(auth={"anonymous_pull": False})
    registry.push_blob("org/app", CONTENT)
    path = f"/v2/org/app/blobs/{DIGEST}"
    assert registry.pull.get(path).headers["www-authenticate"].startswith("Basic ")
    assert registry.pull.get(path, auth=("hub", "x")).status_code == 401
    assert registry.pull.get(path, auth=(USER, PASSWORD)).content == CONTENT


def test_foreign_credentials_pull(harness: Harness) -> None:
    """docker sends a mirror those of Docker Hub; a known user's wrong password is refused."""
    registry = harness.start()
    registry.push_blob("org/app", CONTENT)
    path = f"/v2/org/app/blobs/{DIGEST}"
    assert registry.pull.get(path, auth=("hub", "x")).content == CONTENT
    assert registry.pull.get(path, auth=(USER, "wrong")).status_code == 401


def test_a_private_upstream_needs_a_login(harness: Harness) -> None:
    """Our credentials there may see more than the public: nobody is served with them unknown."""
    upstream = {
        "name": "quay.io",
        "url": "https://127.0.0.1:1",
        "username": "robot",
        "password": "secret",
    }
    registry = harness.start(upstreams=[upstream])
    refused = registry.pull.get("/v2/quay.io/org/app/manifests/v1")
    assert refused.status_code == 401
    assert 'scope="repository:quay.io/org/app:pull"' in refused.headers["www-authenticate"]
    by_namespace = registry.pull.get("/v2/org/app/manifests/v1", params={"ns": "quay.io"})
    assert 'scope="repository:quay.io/org/app:pull"' in by_namespace.headers["www-authenticate"]
    known = registry.pull.get("/v2/quay.io/org/app/manifests/v1", auth=(USER, PASSWORD))
    assert known.status_code == 502
    assert registry.pull.get("/v2/org/app/manifests/v1").status_code == 404


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        (
            "index.docker.io",
            [
                *("org/app", "docker.io/org/app", "index.docker.io/org/app"),
                *("registry-1.docker.io__443/org/app", "docker.io/docker.io/org/app"),
                *("org/app?ns=docker.io", "org/app?ns=Index.Docker.io."),
                "docker.io/org/app?ns=docker.io:443",
            ],
        ),
        (
            "Quay.io.:443",
            [
                *("quay.io/org/app", "quay.io__443/org/app", "docker.io/quay.io/org/app"),
                *("org/app?ns=quay.io", "org/app?ns=QUAY.io:0443", "quay.io/org/app?ns=quay.io."),
            ],
        ),
        ("Registry.Example:5000", ["registry.example__5000/a", "a?ns=registry.example.:05000"]),
        (
            "[0:0::1]:5000",
            [
                *("ip6__0-0-0-0-0-0-0-1__5000/a", "a?ns=[::1]:5000"),
                "a?ns=%5B::0001%5D:5000",
            ],
        ),
    ],
)
def test_a_private_upstream_is_private_by_each_of_its_names(
    harness: Harness, name: str, paths: list[str]
) -> None:
    """However the configuration, the path or ``?ns=`` writes it; a login finds it by each, too."""
    upstream = {"name": name, "url": "https://127.0.0.1:1", "username": "u", "password": "p"}
    registry = harness.start(upstreams=[upstream])
    for path in paths:
        repository, _mark, query = path.partition("?")
        url = f"/v2/{repository}/manifests/v1?{query}"
        assert registry.pull.get(url).status_code == 401, path
        assert registry.pull.get(url, auth=(USER, PASSWORD)).status_code == 502, path


def test_a_rule_names_registries_as_images_do(harness: Harness) -> None:
    """With a port, by any name of Docker Hub; what is for Docker Hub is for nobody else's."""
    patterns = ["Registry.Example:5000/**", "index.docker.io/org/*", "[::1]:5000/**"]
    patterns.append("docker.io/x/**")
    rules = [{"repositories": patterns, "actions": ["push"]}]
    registry = harness.start(auth={"rules": rules})
    for path, status in {
        "a/b/blobs/uploads/?ns=registry.example:5000": 202,
        "registry.example__5000/a/blobs/uploads/": 202,
        "org/app/blobs/uploads/": 202,
        "docker.io/org/app/blobs/uploads/": 202,
        "a/blobs/uploads/?ns=[0::1]:5000": 202,
        "x/a/b/blobs/uploads/": 202,
        "a/blobs/uploads/?ns=registry.example": 403,
        "quay.io/org/app/blobs/uploads/": 403,
        "x/a/blobs/uploads/?ns=quay.io": 403,
    }.items():
        assert registry.push.post(f"/v2/{path}").status_code == status, path


#: Issues a token for what may be done with org/app, as a header.
Issue = Callable[[list[str]], dict[str, str]]


@pytest.fixture
def issued(harness: Harness) -> tuple[Registry, Issue]:
    """A registry whose tokens come from elsewhere, and a function that issues one."""
    key = ec.generate_private_key(ec.SECP256R1())
    entry = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (harness.folder / "jwks.json").write_text(json.dumps({"keys": [entry]}))
    server = {
        "realm": "https://tokens.example/token",
        "service": "ci registry",
        "issuer": "tokens",
        "jwks": "jwks.json",
    }
    registry = harness.start(auth={"token": server, "anonymous_pull": False})

    def issue(actions: list[str]) -> dict[str, str]:
        access = [{"type": "repository", "name": "org/app", "actions": actions}]
        now = int(time.time())
        claims = {"iss": "tokens", "aud": "ci registry", "exp": now + 60, "access": access}
        return bearer(jwt.encode(claims, key, "ES256"))

    return registry, issue


def test_tokens_of_another_server(issued: tuple[Registry, Issue]) -> None:
    """As distribution's ``auth: token``: the challenge names that server, its key decides."""
    registry, issue = issued
    challenge = registry.anonymous.get("/v2/").headers["www-authenticate"]
    assert challenge == 'Bearer realm="https://tokens.example/token",service="ci registry"'
    write, read = issue(["pull", "push"]), issue(["pull"])
    assert registry.anonymous.post(ONE_POST, content=CONTENT, headers=write).status_code == 201
    path = f"/v2/org/app/blobs/{DIGEST}"
    assert registry.pull.get(path, headers=read).content == CONTENT
    assert registry.anonymous.post(UPLOADS, headers=read).status_code == 401
    assert registry.pull.get(path).status_code == 401
    own = registry.anonymous.get("/token", auth=(USER, PASSWORD))
    assert own.status_code == 401
    assert "get one from https://tokens.example/token" in own.text
