# SPDX-License-Identifier: Apache-2.0
"""Images that go from registry to registry, past the executor, by tokens for these images alone.

The secret of the intermediate registry stays on the executor: what the node is sent is recorded.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from buildset_images import carry, direct
from buildset_images.errors import ImagesError
from buildset_images.transfers import CarryOptions

from tests.interop.content import IMAGE, INDEX, Pusher
from tests.interop.registries import PASSWORD, Identity, Program, Storage
from tests.roles.conftest import MakeDesk
from tests.roles.executor import PLUGINS
from tests.roles.intermediate import CHANGE, Served, faulty, handed_on, intermediate, serving
from tests.roles.test_carrying import act, error_of, without_digest
from tests.roles.test_overlaid import TwoHosts

pytestmark = pytest.mark.timeout(300)

BUILD = "a" * 32
SITE, SECRET = "user-of-the-site", "the-secret-of-the-site"
NOTHING = f"sha256:{'0' * 64}"
APP, DATABASE = "quay.io/org/app", "docker.io/org/database"
TOKEN = re.compile(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+")
#: Stands for ssh: what a node is sent is kept, and then run here.
SSH = """#!{python}
import os, subprocess, sys, threading
with open("{folder}/words", "a") as words:
    words.write("\\n".join(sys.argv) + "\\n")
command = subprocess.Popen({prefix} + ["sh", "-c", sys.argv[-1]], stdin=subprocess.PIPE)
def send():
    with open("{folder}/sent", "ab", buffering=0) as sent, command.stdin as there:
        try:
            while piece := os.read(0, 65536):
                sent.write(piece)
                there.write(piece)
                there.flush()
        except OSError:
            pass
threading.Thread(target=send, daemon=True).start()
os._exit(command.wait())
"""


def _of_the_site(storage: Storage, port: int, identity: Identity) -> dict[str, object]:
    users = identity.folder / "htpasswd"
    hashed = bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(4)).decode()
    users.write_text(f"{users.read_text()}{SITE}:{hashed}\n")
    return intermediate("ours").config(storage, port, identity)


def serving_site(folder: Path) -> AbstractContextManager[list[Served]]:
    """Run an intermediate registry whose secret no other registry has."""
    return serving(folder, Program("site", intermediate("ours").command, _of_the_site))


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An intermediate registry whose secret no other registry has."""
    with serving_site(tmp_path_factory.mktemp("site")) as (served,):
        yield served


def secret(there: Served, **more: Any) -> dict[str, Any]:
    """Return what the executor alone has."""
    return {**there.secret, "username": SITE, "password": SECRET, **more}


class Recorded(TwoHosts):
    """A job whose node is reached by what stands for ssh."""

    prefix: tuple[str, ...] = ()
    """A command that runs what the node is to do."""

    def inventory(self, variables: dict[str, Any]) -> Path:
        """Have the node be sent everything by ssh, as from Zuul's executor."""
        path = super().inventory(variables)
        ssh = self.root / "ssh"
        given = {"python": sys.executable, "folder": self.root, "prefix": list(self.prefix)}
        ssh.write_text(SSH.format(**given))
        ssh.chmod(0o755)
        words = {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh)}
        tree = json.loads(path.read_text())
        tree["all"]["hosts"]["node"] |= {**words, "ansible_ssh_pipelining": True}
        path.write_text(json.dumps(tree))
        return path

    @property
    def sent(self) -> str:
        """What the node was sent, by whatever way."""
        found = [self.root / name for name in ("words", "sent")]
        return "".join(one.read_text(errors="replace") for one in found if one.exists())


def images(registry: Served, tag: str) -> dict[str, str]:
    """Push an index with signatures of both kinds, and an image; return digests."""
    pusher = Pusher(registry.client)
    children = [pusher.image(APP, seed) for seed in (b"amd64", b"arm64")]
    index = pusher.index(APP, INDEX, children, tag)
    pusher.artifact(APP, index)
    pusher.image(APP, b"cosign", f"{index.replace(':', '-')}.sig")
    return {APP: index, "org/database": pusher.image("org/database", b"database", tag)}


def play(role: str) -> dict[str, Any]:
    """Include a role on the executor."""
    return {"hosts": "localhost", "gather_facts": False, "roles": [role]}


ROLES = {
    one: f"{one}_{way}_intermediate_registry" for one, way in (("push", "to"), ("pull", "from"))
}
#: What the executor takes to be so afterwards.
SHOW = {
    "hosts": "localhost",
    "gather_facts": False,
    "tasks": [
        {
            "name": "Show what there is",
            "ansible.builtin.debug": {
                "msg": "build {{ zuul.build }}, "
                "{{ docker_images | default(container_images) | length }} images"
                "{{ docker_images | default('') }}"
            },
        }
    ],
}


def listed(tag: str) -> list[dict[str, Any]]:
    """Return both images as a job names them."""
    return [{"repository": name, "tags": [tag]} for name in (APP, DATABASE)]


@pytest.mark.parametrize("version", PLUGINS)
def test_images_pass_the_executor_by_and_its_secret_stays(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served], there: Served, version: str
) -> None:
    """Pushed and pulled by the nodes of the registries, which are sent tokens and no secret."""
    tag = f"direct-{version}"
    made = images(world["first"], tag)
    given: dict[str, Any] = {
        "intermediate_registry": secret(there),
        "container_images": listed(tag),
    }
    first = Recorded(make_desk(version), clone, version, host="localhost")
    pushed = first.play(
        first.desk.write("push.yml", [play("push_to_intermediate_registry")]),
        **given,
        buildset_registry=world["first"].facts,
        zuul={"build": BUILD},
        zuul_success=True,
    )
    assert pushed.code == 0, pushed.output
    artifacts = handed_on(first)
    assert {one["metadata"]["digest"] for one in artifacts} == set(made.values())
    (app,) = [one["metadata"] for one in artifacts if one["metadata"]["repository"] == APP]
    assert (app["media_type"], app["platforms"]) == (INDEX, ["linux/amd64", "linux/arm64"])
    second = Recorded(make_desk(version), clone, version, host="localhost")
    pulled = second.play(
        second.desk.write("pull.yml", [play("pull_from_intermediate_registry")]),
        **given,
        zuul_artifacts=artifacts,
        buildset_registry=world["second"].facts,
        buildset_registry_overlay=False,
    )
    assert pulled.code == 0, pulled.output
    assert {name: world["second"].digest(name, tag) for name in made} == made
    for registry in (there, world["second"]):
        answer = registry.client.get(f"/v2/{APP}/referrers/{made[APP]}").json()
        assert len(answer["manifests"]) == 1
        assert registry.digest(APP, f"{made[APP].replace(':', '-')}.sig")
    for job in (first, second):
        assert "copied between the registries by node" in job.output
        assert "Copy images between registries" not in job.output
        tokens = set(TOKEN.findall(job.sent))
        assert tokens
        assert not any(one in job.output for one in tokens)
        assert not TOKEN.search((job.root / "words").read_text())
        assert SECRET not in job.sent + job.output
        assert SITE not in job.sent
        assert PASSWORD not in job.output
        assert [path for path in job.desk.home.rglob("*") if path.is_file()] == []
        assert list(job.temporary.iterdir()) == []


def test_the_executor_copies_what_the_node_cannot(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served], there: Served
) -> None:
    """A registry that it does not reach, or that it is not to; the log says why."""
    made = images(world["first"], "around")
    facts = secret(there, host="127.0.0.1", address="")
    given: dict[str, Any] = {
        "intermediate_registry": facts,
        "buildset_registry": world["first"].facts,
    }
    job = Recorded(make_desk("2.18"), clone, "2.18", host="localhost")
    common: dict[str, Any] = {
        **given,
        "container_images": listed("around"),
        "zuul": {"build": "b" * 32},
        "zuul_success": True,
    }
    playbook = job.desk.write("push.yml", [play("push_to_intermediate_registry")])
    forced = job.play(playbook, **common, buildset_registry_direct=False)
    assert forced.code == 0, forced.output
    assert "the executor copies the images: the " not in forced.output
    assert job.sent == ""
    assert {one["metadata"]["digest"] for one in handed_on(job)} == set(made.values())
    job.prefix = ("unshare", "--net")
    again = {**common, "zuul": {"build": "c" * 32}}
    pushed = job.play(playbook, **again)
    assert pushed.code == 0, pushed.output
    assert "the executor copies the images: the intermediate registry 127.0.0.1" in pushed.output
    assert "is not reached from the node" in pushed.output
    assert {name: there.digest(name, "c" * 32 + "_around") for name in made} == made
    gone = [{"repository": "quay.io/org/absent"}]
    job.prefix = ()
    failed = job.play(playbook, **{**common, "container_images": gone})
    assert failed.code != 0
    assert "quay.io/org/absent:latest: " in failed.output
    assert SECRET not in job.sent + job.output


#: A node that answers what it pleases, where it is to run a module.
LIAR = """#!{python}
import json, os, sys
if {python!r} in sys.argv[-1]:
    print(json.dumps({result}))
else:
    os.execvp(sys.argv[1], sys.argv[1:])
"""


class Lying(Recorded):
    """A job whose node runs no module, and says what came of it."""

    def inventory(self, variables: dict[str, Any]) -> Path:
        """Name the node's Python, by which a module is known."""
        path = super().inventory(variables)
        tree = json.loads(path.read_text())
        tree["all"]["hosts"]["node"]["ansible_python_interpreter"] = sys.executable
        path.write_text(json.dumps(tree))
        return path

    def lies(self, result: dict[str, Any]) -> None:
        """Have it say something."""
        script = self.root / "liar"
        script.write_text(LIAR.format(python=sys.executable, result=repr(result)))
        script.chmod(0o755)
        self.prefix = (str(script),)


@pytest.mark.parametrize("role", ["push", "pull"])
def test_what_a_node_answers_changes_nothing_for_the_executor(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served], there: Served, role: str
) -> None:
    """It says that it is another build, with other images, and that it cannot copy.

    Facts that a module tells would be those of the executor, which then copies by the secret.
    """
    digest, victim = images(world["first"], f"liar-{role}")["org/database"], "f" * 32
    stolen = [{"repository": "quay.io/org/stolen", "tags": ["v1"]}]
    lie = {"zuul": {"build": victim}, "docker_images": stolen, "zuul_artifacts": []}
    result: dict[str, Any] = {"errors": ["no"], "msg": "no", "lines": [], "changed": False}
    job = Lying(make_desk("2.18"), clone, "2.18", host="localhost")
    job.lies(result | {"ansible_facts": lie})
    wanted = [{"repository": DATABASE, "tags": [f"liar-{role}"]}]
    Pusher(world["first"].client).image("quay.io/org/stolen", b"stolen", "v1")
    given: dict[str, Any] = {
        "container_images": wanted,
        "buildset_registry": world["first"].facts,
        "intermediate_registry": secret(there),
        "zuul": {"build": BUILD},
        "zuul_success": True,
        "zuul_artifacts": [],
    }
    if role == "pull":
        made = Pusher(there.client).image("org/database", b"other", f"{BUILD}_pulled")
        url = f"docker://{there.secret['host']}:{there.port}/org/database:{BUILD}_pulled"
        metadata = {"type": "container_image", "repository": DATABASE, "tag": "pulled"}
        given["zuul_artifacts"] = [{"name": "db", "url": url, "metadata": metadata, **CHANGE}]
    played = job.play(job.desk.write(f"{role}.yml", [play(ROLES[role]), SHOW]), **given)
    assert played.code == 0, played.output
    assert "the executor copies the images: no" in played.output
    assert f"build {BUILD}, 1 images" in played.output
    assert there.digest("quay.io/org/stolen", f"{victim}_v1") == ""
    assert there.digest("org/database", f"{victim}_liar-{role}") == ""
    if role == "push":
        assert [one["metadata"]["digest"] for one in handed_on(job)] == [digest]
        assert there.digest("org/database", f"{BUILD}_liar-push") == digest
    else:
        assert world["first"].digest("org/database", "pulled") == made


def permitted(action: str, there: Served, **given: Any) -> list[dict[str, Any]]:
    """Return tokens, as the executor gets them."""
    result = act(f"permit_{action}", intermediate_registry=secret(there), seconds=3600, **given)
    assert (result["errors"], result["reason"]) == ([], "")
    return list(result["permits"])


def at(there: Served, **more: Any) -> dict[str, Any]:
    """Return what a node knows of the intermediate registry."""
    known = {key: there.secret[key] for key in ("host", "port", "cert", "address")}
    return {**known, "username": None, "password": None, **more}


def test_more_images_than_one_token_is_for(world: dict[str, Served], there: Served) -> None:
    """Each of the tokens brings its own; again, no bytes are moved."""
    names = [f"quay.io/org/many-{number}" for number in range(21)]
    for name in names:
        Pusher(world["first"].client).image(name, b"many", "v1")
    wanted = [{"repository": name, "tags": ["v1"]} for name in names]
    permits = permitted("push", there, images=wanted)
    assert [len(one["images"]) for one in permits] == [20, 1]
    for turn in range(2):
        pushed = push(world["first"], wanted, permits, at(there))
        assert pushed["errors"] == []
        assert (pushed["bytes"]["moved"] > 0) is (turn == 0)
    known: dict[str, Any] = {"images": wanted, "copied": pushed["images"]}
    confirmed = act("confirm_push", **known, intermediate_registry=secret(there))
    assert (confirmed["errors"], confirmed["artifacts"]) == ([], pushed["artifacts"])
    assert len(pushed["artifacts"]) == len(names)
    for artifacts in (pushed["artifacts"], [without_digest(one) for one in pushed["artifacts"]]):
        pulled = act(
            "pull",
            artifacts=artifacts,
            permits=permitted("pull", there, artifacts=artifacts),
            buildset_registry=world["second"].facts,
            intermediate_registry=at(there),
        )
        assert pulled["errors"] == []
    digest = pushed["artifacts"][-1]["metadata"]["digest"]
    assert world["second"].digest(names[-1], "v1") == digest


def test_a_node_tells_which_signatures_went_along(world: dict[str, Served], there: Served) -> None:
    """Of both kinds, and they are looked for."""
    tag = "signed-here"
    index = images(world["first"], tag)[APP]
    wanted = [{"repository": APP, "tags": [tag]}]
    pushed = push(world["first"], wanted, permitted("push", there, images=wanted), at(there))
    (image,) = pushed["images"]
    assert len(image["referrers"]) == 2
    assert image["digest"] == index
    known: dict[str, Any] = {"images": wanted, "copied": pushed["images"]}
    confirmed = act("confirm_push", **known, intermediate_registry=secret(there))
    assert (confirmed["errors"], confirmed["artifacts"]) == ([], pushed["artifacts"])


def push(
    own: Served, wanted: list[dict[str, Any]], permits: list[Any], facts: dict[str, Any]
) -> dict[str, Any]:
    """Push as a node does."""
    given: dict[str, Any] = {"images": wanted, "permits": permits}
    return act("push", **given, buildset_registry=own.facts, intermediate_registry=facts)


@pytest.mark.parametrize("host", ["::1", "[::1]", "127.0.0.1"])
def test_a_node_uses_addresses_as_the_executor_does(
    world: dict[str, Served], there: Served, host: str
) -> None:
    """With brackets and without them."""
    wanted = [{"repository": "quay.io/org/addressed", "tags": ["v1"]}]
    Pusher(world["first"].client).image("quay.io/org/addressed", b"addressed", "v1")
    permits = permitted("push", there, images=wanted)
    pushed = push(world["first"], wanted, permits, at(there, host=host, address=None))
    assert pushed["errors"] == []


def test_a_token_is_for_the_images_that_it_names(world: dict[str, Served], there: Served) -> None:
    """What it does not name is told in a line, and stays as it was."""
    for name in ("quay.io/org/mine", "quay.io/org/other"):
        Pusher(world["first"].client).image(name, b"named", "v1")
    mine, other = (
        {"repository": f"quay.io/org/{one}", "tags": ["v1"]} for one in ("mine", "other")
    )
    (permit,) = permitted("push", there, images=[mine])
    common: dict[str, Any] = {
        "buildset_registry": world["first"].facts,
        "intermediate_registry": at(there),
        "images": [other],
    }
    with pytest.raises(ImagesError, match="org/other:v1: there is no token for it"):
        act("push", **common, permits=[permit])
    forged = {**permit, "images": ["quay.io/org/other:v1"]}
    line = error_of(act("push", **common, permits=[forged]))
    assert line.startswith("quay.io/org/other:v1: ")
    assert "401" in line
    assert there.digest("quay.io/org/other", f"{BUILD}_v1") == ""
    assert permit["token"] not in line


def test_what_a_node_tells_is_not_believed(world: dict[str, Served], there: Served) -> None:
    """Artifacts are made of what the intermediate registry has."""
    name = "quay.io/org/told"
    digest = Pusher(there.client).image(name, b"told", f"{BUILD}_v1")
    wanted = [{"repository": name, "tags": ["v1"]}]
    common: dict[str, Any] = {"images": wanted, "intermediate_registry": secret(there)}
    told = {"name": f"{name}:v1", "digest": digest, "copied": True}
    odd = ["linux/amd64", "{{ lookup('env', 'HOME') }}", "a/b\n", 1, "x" * 200]
    good = act("confirm_push", **common, copied=[{**told, "platforms": odd, "media_type": "odd"}])
    (artifact,) = good["artifacts"]
    assert artifact["metadata"]["platforms"] == ["linux/amd64"]
    assert artifact["metadata"]["media_type"] != "odd"
    for wrong in ([], [{**told, "digest": "sha256:" + "0" * 64}], [{**told, "name": "x"}], ["x"]):
        refused = act("confirm_push", **common, copied=wrong)
        assert refused["errors"]
        assert refused["artifacts"] == []
    absent = [{"repository": name, "tags": ["v2"]}]
    told["name"] = f"{name}:v2"
    assert "is not there" in error_of(
        act("confirm_push", **{**common, "images": absent}, copied=[told])
    )


def test_an_index_without_its_images_is_not_confirmed(there: Served) -> None:
    """The registry takes one, and the digest of its tag is what the node has told."""
    name, child = (
        "quay.io/org/hollow",
        {"mediaType": IMAGE, "size": 2, "digest": NOTHING},
    )
    tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}
    digest = Pusher(there.client).manifest(name, tree, f"{BUILD}_v1")
    wanted = [{"repository": name, "tags": ["v1"]}]
    told = {"name": f"{name}:v1", "digest": digest, "copied": True}
    refused = act("confirm_push", images=wanted, copied=[told], intermediate_registry=secret(there))
    assert f"lists {NOTHING}, which is not there" in error_of(refused)
    assert refused["artifacts"] == []
    whole = Pusher(there.client)
    child = {**child, "digest": whole.image(name, b"child", "child")}
    told["digest"] = whole.manifest(name, {**tree, "manifests": [child]}, f"{BUILD}_v1")
    good = act("confirm_push", images=wanted, copied=[told], intermediate_registry=secret(there))
    assert [one["metadata"]["digest"] for one in good["artifacts"]] == [told["digest"]]


def nest(pusher: Pusher, name: str, digest: str, media_type: str, *tags: str) -> str:
    """Push an index of one thing, which need not be there."""
    child = {"mediaType": media_type, "size": 2, "digest": digest}
    tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}
    return pusher.manifest(name, tree, *tags)


def confirm(there: Served, digest: str, name: str, **told: Any) -> dict[str, Any]:
    """Look at what a node says it has pushed."""
    said = {"name": f"{name}:v1", "digest": digest, "copied": True, **told}
    images = [{"repository": name, "tags": ["v1"]}]
    return act("confirm_push", images=images, copied=[said], intermediate_registry=secret(there))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_index_of_indexes_is_confirmed_with_all_that_they_list(
    there: Served, depth: int
) -> None:
    """However deep the one is that is missing; an index itself may be it."""
    pusher, name, tag = Pusher(there.client), f"quay.io/org/deep-{depth}", f"{BUILD}_v1"
    for lacking in (IMAGE, INDEX):
        digest = nest(pusher, name, NOTHING, lacking)
        for level in range(depth):
            digest = nest(pusher, name, digest, INDEX, *([tag] if level == depth - 1 else []))
        refused = confirm(there, digest, name)
        assert error_of(refused).endswith(f"lists {NOTHING}, which is not there")
    digest = nest(pusher, name, pusher.image(name, b"deep"), IMAGE)
    for level in range(depth):
        digest = nest(pusher, name, digest, INDEX, *([tag] if level == depth - 1 else []))
    (artifact,) = confirm(there, digest, name)["artifacts"]
    assert artifact["metadata"]["digest"] == digest


def test_what_a_node_says_of_signatures_has_to_be_there(there: Served) -> None:
    """Whatever it says otherwise; they are in no artifact."""
    pusher, name = Pusher(there.client), "quay.io/org/signed"
    digest = pusher.image(name, b"signed", f"{BUILD}_v1")
    signature = pusher.artifact(name, digest)
    refused = confirm(there, digest, name, referrers=[signature, NOTHING])
    assert error_of(refused).endswith(f"lacks {NOTHING}, which was to go along")
    for odd in ([signature, 3, "x"], "x", None, {"a": 1}):
        (artifact,) = confirm(there, digest, name, referrers=odd)["artifacts"]
        assert artifact["metadata"]["digest"] == digest
        assert "referrers" not in artifact["metadata"]


def test_a_node_does_not_decide_how_long_the_executor_looks(
    monkeypatch: pytest.MonkeyPatch, there: Served
) -> None:
    """By an index of very many images, or by indexes that go on and on."""
    monkeypatch.setattr(direct, "_MOST_PARTS", 20)
    monkeypatch.setattr(direct, "_DEEPEST", 3)
    pusher, name, tag = Pusher(there.client), "quay.io/org/endless", f"{BUILD}_v1"
    image = {"mediaType": IMAGE, "size": 2}
    listed = [{**image, "digest": f"sha256:{number:064x}"} for number in range(30)]
    tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
    wide = pusher.manifest(name, tree, tag)
    line = error_of(confirm(there, wide, name))
    assert line.endswith("lists more than 20 images, directly or by indexes")
    digest = pusher.image(name, b"endless")
    for level in range(6):
        media_type = INDEX if level else IMAGE
        digest = nest(pusher, name, digest, media_type, *([tag] if level == 5 else []))
    line = error_of(confirm(there, digest, name))
    assert line.endswith("has indexes in indexes, more than 3 deep")


@pytest.mark.parametrize("kind", ["zuul-registry", "distribution"])
def test_another_registry_gives_no_tokens(world: dict[str, Served], kind: str) -> None:
    """Which is no error: the executor copies."""
    wanted = [{"repository": APP, "tags": ["v1"]}]
    result = act("permit_push", images=wanted, seconds=60, intermediate_registry=world[kind].secret)
    assert (result["errors"], result["permits"]) == ([], [])
    assert "issues no tokens for single images" in result["reason"]


@pytest.mark.parametrize("action", ["permit_push", "overlay"])
def test_a_registry_that_is_busy_is_asked_for_tokens_again(
    monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """For a while, after the pause that it asks for; then the executor copies."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with faulty(429, {"Retry-After": "7"}) as registry:
        digest = f"sha256:{'d' * 64}"
        metadata = {"type": "container_image", "repository": APP, "tag": "v1", "digest": digest}
        url = f"docker://127.0.0.1:{registry.port}/{APP}:{BUILD}_v1"
        result = act(
            action,
            images=[{"repository": APP, "tags": ["v1"]}],
            artifacts=[{"name": "v1", "url": url, "metadata": metadata}],
            seconds=60,
            intermediate_registry=registry.facts,
        )
    assert "(429)" in result["reason"]
    assert pauses == [7, 7, 7, 7]
    assert registry.asked["POST", "/token"] == 5


@pytest.mark.parametrize("status", [None, 401, 503])
def test_a_registry_that_does_not_answer_a_node_is_told_soon(
    monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    """Within a bounded time, whatever it does."""
    monkeypatch.setattr(direct, "REACH_SECONDS", 1)
    with faulty(status) as registry:
        facts = {**registry.facts, "username": None, "password": None}
        permits = [{"token": "a.b.c", "images": [f"{APP}:v1"]}]
        given = {"images": [{"repository": APP, "tags": ["v1"]}], "build": BUILD}
        options = {"images_variable": "container_images", "returned": [], "permits": permits}
        secrets = {"buildset_registry": registry.facts, "intermediate_registry": facts}
        with pytest.raises(ImagesError, match="the intermediate registry 127"):
            carry.work({"action": "push", **given, **options, **secrets}, CarryOptions())
