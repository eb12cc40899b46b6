# SPDX-License-Identifier: Apache-2.0
"""Change A builds images; the jobs of change B, which depends on it, pull them on two nodes.

Between the two is an intermediate registry of each kind. What crossed the executor is counted, and
what a node carried past it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.interop.content import DOCKER, DOCKER_IMAGE, IMAGE, INDEX, OCI, Pusher
from tests.interop.registries import PASSWORD, USER
from tests.lab.host import USER as LAB_USER
from tests.roles.buildset import NODES, PLAIN, Nodes, NodesJob
from tests.roles.crossing import crossing
from tests.roles.intermediate import KINDS, NAME, Api, Served, answering, handed_on

#: docker, without a proxy of its own, has mirrors for docker.io alone.
APP, DATABASE = "docker.io/org/app", "docker.io/org/database"
BUILD = "a" * 32
PROGRAMS = ("podman", "docker")
PULL = (
    "{0} pull -q {1} >/dev/null && {0} image inspect --format '{{{{.RepoDigests}}}}' {1};"
    " {0} rmi -f {1} >/dev/null; "
)
RAW = "echo sha256:$(skopeo inspect --raw docker://{0} | sha256sum | cut -c -64); "
FOLDER = "{{ ansible_user_dir }}/build"
#: Bytes of a layer that nothing makes smaller: far more than what is said of an image.
LAYER = 256 << 10


@dataclass
class Consumed:
    """The digests that A built, and what B has found by whom."""

    made: dict[str, str]
    pulled: dict[tuple[str, str, str, str], list[str]] = field(default_factory=dict)
    """Digests by kind of registry, node, program and image."""

    referrers: list[str] = field(default_factory=list)
    signature: str = ""
    promoted: dict[str, str] = field(default_factory=dict)
    crossed: list[str] = field(default_factory=list)
    by_executor: dict[str, dict[str, int]] = field(default_factory=dict)
    """Bytes that crossed it, by what was done and by registry."""

    by_node: dict[str, dict[str, int]] = field(default_factory=dict)
    output: str = ""


def build(registry: Served, tags: list[str]) -> tuple[dict[str, str], str]:
    """Have an index of two platforms with a signature, and a schema 2 image; clients take both."""
    pusher = Pusher(registry.client)
    name = local(APP)
    children = [_image(pusher, name, one, IMAGE) for one in ("amd64", "arm64")]
    index = pusher.index(name, INDEX, children, *tags)
    image = _image(pusher, local(DATABASE), "amd64", DOCKER_IMAGE, *tags)
    return {APP: index, DATABASE: image}, pusher.artifact(name, index)


def local(name: str) -> str:
    """Return a public name as a buildset's registry has it."""
    return name.removeprefix("docker.io/")


def _image(pusher: Pusher, name: str, architecture: str, media_type: str, *tags: str) -> str:
    """Push an image of one file that says for what it is."""
    plain = io.BytesIO()
    words = f"{name} for {architecture}, built as {uuid.uuid4()}\n"
    with tarfile.open(fileobj=plain, mode="w") as layer:
        entry = tarfile.TarInfo("words")
        content = words.encode() + _incompressible(words)
        entry.size = len(content)
        layer.addfile(entry, io.BytesIO(content))
    difference = f"sha256:{hashlib.sha256(plain.getvalue()).hexdigest()}"
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [difference]},
        "history": [{"created_by": "a test"}],
    }
    types = (f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip")
    if media_type == DOCKER_IMAGE:
        types = (f"{DOCKER}.container.image.v1+json", f"{DOCKER}.image.rootfs.diff.tar.gzip")
    contents = json.dumps(config).encode(), gzip.compress(plain.getvalue(), mtime=0)
    parts = [
        {"mediaType": kind, "digest": pusher.blob(name, content), "size": len(content)}
        for kind, content in zip(types, contents, strict=True)
    ]
    tree = {"schemaVersion": 2, "mediaType": media_type, "config": parts[0], "layers": parts[1:]}
    return pusher.manifest(name, tree, *tags)


def _incompressible(seed: str) -> bytes:
    """Return the bytes that make a layer as large as it is to be."""
    pieces = range(LAYER // hashlib.sha256().digest_size)
    return b"".join(hashlib.sha256(f"{seed}{piece}".encode()).digest() for piece in pieces)


def role(name: str, **variables: Any) -> dict[str, Any]:
    """Include a role with variables of its own."""
    return {"ansible.builtin.include_role": {"name": name}, "vars": variables}


@dataclass
class Story:
    """The two jobs, the nodes of the second one, and the registries between them."""

    nodes: Nodes
    first: NodesJob
    second: NodesJob
    facts: dict[str, Any]
    world: dict[str, Served]
    tags: dict[str, str]
    found: Consumed

    def play(self, job: NodesJob, *tasks: dict[str, Any], **variables: Any) -> str:
        """Run tasks of a job; they go well."""
        playbook = job.desk.write("images.yml", [{"hosts": "all", "tasks": list(tasks)}])
        run = job.play(playbook, **variables)
        self.found.output += run.output
        assert run.code == 0, run.output
        return run.output

    def push(self) -> list[dict[str, Any]]:
        """Push by A, from its own registry; return the artifacts as B gets them."""
        listed = [{"repository": name, "tags": [*self.tags.values()]} for name in (APP, DATABASE)]
        tasks = []
        for kind, tag in self.tags.items():
            images = [{**one, "tags": [tag]} for one in listed]
            secret = self.world[kind].secret
            given = {"intermediate_registry": secret, "container_images": images}
            tasks.append(role("push_to_intermediate_registry", **given))
        facts = {"buildset_registry": self.world["first"].facts, "zuul_success": True}
        # It has another address than its facts say.
        facts["buildset_registry_node"] = PLAIN
        self.play(self.first, *tasks, **facts, zuul={"build": BUILD})
        return handed_on(self.first)

    def pull(self, artifacts: list[dict[str, Any]]) -> None:
        """Pull by B, into its buildset's registry, from each kind what was pushed there."""
        tasks = []
        for kind, tag in self.tags.items():
            taken = [one for one in artifacts if one["metadata"]["tag"] == tag]
            given = {"intermediate_registry": self.world[kind].secret, "zuul_artifacts": taken}
            tasks.append(role("pull_from_intermediate_registry", **given))
        self.play(self.second, *tasks, buildset_registry=self.facts)

    def use(self) -> None:
        """Pull by public names on both nodes at once, by podman and by docker."""
        wanted = [
            (kind, program, name)
            for kind in KINDS
            for program in PROGRAMS
            for name in (APP, DATABASE)
        ]
        script = "{% raw %}exec >consumed; "
        for kind, program, name in wanted:
            script += PULL.format(program, f"{name}:{self.tags[kind]}")
        script += RAW.format(f"{APP}:{self.tags[KINDS[0]]}") + "{% endraw %}"
        told = {"argv": ["sh", "-c", script], "chdir": FOLDER}
        self.play(self.second, {"command": told, "changed_when": False})
        for node in NODES:
            lines = self.nodes.run(node, f"cat /home/{LAB_USER}/build/consumed").splitlines()
            for (kind, program, name), line in zip(wanted, lines[:-1], strict=True):
                digests = re.findall("sha256:[0-9a-f]{64}", line)
                self.found.pulled[kind, node, program, name] = digests
            self.found.pulled[KINDS[0], node, "skopeo", APP] = lines[-1:]
        address = f"https://{self.facts['host']}:{self.facts['port']}"
        url = f"{address}/v2/{local(APP)}/referrers/{self.found.made[APP]}"
        listed = json.loads(self.nodes.run(NODES[0], f"curl --silent --insecure {url}"))
        self.found.referrers = [one["digest"] for one in listed["manifests"]]

    def promote(self, api: Api, artifacts: list[dict[str, Any]]) -> None:
        """Publish what A has built, when it has merged, from each kind."""
        public = self.world["public"]
        host = f"{NAME}:{public.port}"
        login = {"username": USER, "password": PASSWORD, "cert": public.cert}
        api.answers["/builds"] = [
            {"uuid": BUILD, "job_name": "build-images", "result": "SUCCESS", "artifacts": artifacts}
        ]
        api.rename(APP, f"{host}/org/app")
        tasks = []
        for kind, tag in self.tags.items():
            image = {"repository": f"{host}/org/app", "tags": [tag], "registry": host}
            given = {"container_images": [image], "intermediate_registry": self.world[kind].secret}
            tasks.append(role("promote_container_image", **given))
        self.play(
            self.second,
            *tasks,
            promote_container_image_method="intermediate-registry",
            promote_container_image_api=api.url,
            promote_container_image_job="build-images",
            container_registry_credentials={host: {**login, "address": "127.0.0.1"}},
            zuul={"change": "41", "patchset": "2", "pipeline": "promote"},
        )
        self.found.promoted = {
            kind: public.digest("org/app", tag) for kind, tag in self.tags.items()
        }


def consume(
    nodes: Nodes, jobs: tuple[NodesJob, NodesJob], facts: dict[str, Any], world: dict[str, Served]
) -> Consumed:
    """Let A push, B pull and use, and what has merged be promoted."""
    tags = {kind: f"{kind}-{nodes.lab.keeper.number}" for kind in KINDS}
    made, signature = build(world["first"], list(tags.values()))
    found = Consumed(made, signature=signature)
    story = Story(nodes, *jobs, facts, world, tags, found)
    names = {one.port: name for name, one in world.items()}
    executor, node = nodes.lab.keeper.number, nodes.lab.hosts[PLAIN].number
    with (
        answering() as api,
        crossing(executor, [*names, api.port]) as counted,
        crossing(node, names) as past,
    ):

        def tell(what: str) -> None:
            found.by_executor[what], found.by_node[what] = counted.sums(names), past.sums(names)
            found.crossed += [what, *counted.lines(names)]
            past.lines(names)

        artifacts = story.push()
        tell("change A pushes")
        story.pull(artifacts)
        tell("change B pulls")
        story.use()
        story.promote(api, artifacts)
        tell("what has merged is promoted")
    return found
