# SPDX-License-Identifier: Apache-2.0
"""Images of other changes of which nothing is copied, under Zuul's own plugins.

The playbook that has the secret runs on the executor; the registry is another host's.
"""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.content import INDEX, Pusher, digest_of
from tests.interop.registries import PASSWORD
from tests.roles.conftest import MakeDesk
from tests.roles.executor import PLUGINS, Job
from tests.roles.intermediate import ACCEPT, NAME, Served

BUILD = "a" * 32
APP = "quay.io/org/app"
CHANGE = {"project": "org/app", "change": "41", "patchset": "2", "job": "build-images"}
START = {"hosts": "node", "gather_facts": False, "roles": ["run_buildset_registry"]}
PULL = {"hosts": "localhost", "gather_facts": False, "roles": ["pull_from_intermediate_registry"]}


class TwoHosts(Job):
    """A job with a node beside the executor."""

    def inventory(self, variables: dict[str, Any]) -> Path:
        """Add the node, by the address that the registry's facts have."""
        path = super().inventory(variables)
        tree = json.loads(path.read_text())
        tree["all"]["hosts"]["node"] = {
            "ansible_connection": "local",
            "ansible_host": "node.invalid",
            "nodepool": {"private_ipv4": "127.0.0.1"},
        }
        path.write_text(json.dumps(tree))
        return path


class ChildJob(Job):
    """A job whose only node is not the one that its parent's registry runs on."""

    def inventory(self, variables: dict[str, Any]) -> Path:
        """Give the node an address that is none of the registry's."""
        path = super().inventory(variables)
        tree = json.loads(path.read_text())
        tree["all"]["hosts"][self.host]["ansible_host"] = "another.invalid"
        path.write_text(json.dumps(tree))
        return path


def artifact(host: str, port: int, tag: str) -> dict[str, Any]:
    """Return one as zuul-jobs has it, without a digest."""
    url = f"docker://{host}:{port}/{APP}:{BUILD}_{tag}"
    metadata = {"type": "container_image", "repository": APP, "tag": tag}
    return {"name": f"{APP}:{tag}", "url": url, "metadata": metadata, **CHANGE}


def built(there: Served, *tags: str) -> str:
    """Have an image of two platforms there as the other build has left it; return its digest."""
    pusher = Pusher(there.client)
    children = [pusher.image(APP, f"{tags[0]} {one}".encode()) for one in ("amd64", "arm64")]
    return pusher.index(APP, INDEX, children, *(f"{BUILD}_{tag}" for tag in tags))


def pulled(facts: dict[str, Any], tag: str) -> str:
    """Pull a tag as a node does, and return its digest."""
    context = ssl.create_default_context(cadata=facts["cert"])
    base = f"https://{facts['host']}:{facts['port']}"
    with httpx.Client(base_url=base, verify=context, timeout=30) as client:
        answer = client.get(f"/v2/{APP}/manifests/{tag}", headers={"Accept": ACCEPT})
    assert answer.status_code == 200, answer.text
    return digest_of(answer.content)


@pytest.mark.parametrize("version", PLUGINS)
def test_nothing_is_copied_where_the_node_reaches_the_registry(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served], version: str
) -> None:
    """Else the images are copied and the log says why; no secret but the token gets to the node."""
    there = world["ours"]
    laid, copied = f"laid-{version}", f"copied-{version}"
    digest = built(there, laid, copied)
    job = TwoHosts(make_desk(version), clone, version, host="localhost")
    root = Path(str(job.desk.variables["buildset_registry_root"]))
    first = {**PULL, "vars": {"intermediate_registry": there.facts}}
    keep = {
        "ansible.builtin.copy": {
            "content": "{{ hostvars.node.buildset_registry | to_json }}",
            "dest": str(job.desk.folder / "facts.json"),
            "mode": "0600",
        },
        "no_log": True,
    }
    plays = [START, first, {"hosts": "localhost", "gather_facts": False, "tasks": [keep]}]
    common: dict[str, Any] = {"buildset_registry_namespaces": []}
    run = job.play(
        job.desk.write("overlaid.yml", plays),
        zuul={"artifacts": [artifact("127.0.0.1", there.port, laid)], "timeout": 1800},
        **common,
    )
    assert run.code == 0, run.output
    assert f"{APP}:{laid} is {digest} at " in run.output, run.output
    assert "0 B copied" in run.output, run.output
    assert "Copy images between registries" not in run.output
    facts = run.facts
    assert facts is not None
    written = root / "overlay" / "images.json"
    (handed,) = json.loads(written.read_text())["handed"]
    (image,) = handed["images"].values()
    assert (image["build"], image["change"], image["digest"]) == (BUILD, "41,2", digest)
    assert pulled(facts, laid) == digest
    by_name = artifact(NAME, there.port, copied)
    second = {**PULL, "vars": {"intermediate_registry": there.secret, "buildset_registry": facts}}
    again = job.play(
        job.desk.write("copied.yml", [second]), zuul={"artifacts": [by_name]}, **common
    )
    assert again.code == 0, again.output
    assert f"the images are copied: {APP}:{copied}, made by build" in again.output, again.output
    assert pulled(facts, copied) == digest
    assert handed["token"] not in job.output
    assert PASSWORD not in job.output + "".join(
        path.read_text() for path in root.rglob("*") if path.is_file() and path.suffix == ".json"
    )
    assert list(job.temporary.iterdir()) == []


@pytest.mark.parametrize("version", PLUGINS)
def test_nothing_is_copied_by_a_job_that_uses_its_parent_s_registry(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served], version: str
) -> None:
    """The parent, which needs no image itself, has named the registry that holds them."""
    there = world["ours"]
    tag = f"child-{version}"
    digest = built(there, tag)
    common: dict[str, Any] = {"buildset_registry_namespaces": []}
    pull = {**PULL, "vars": {"intermediate_registry": there.facts}}
    parent = TwoHosts(make_desk(version), clone, version, host="localhost")
    started = parent.play(parent.desk.write("parent.yml", [START, pull]), **common)
    assert started.code == 0, started.output
    facts = parent.returned["secret_data"]["buildset_registry"]
    child = ChildJob(make_desk(version), clone, version)
    handed = child.play(
        child.desk.write("child.yml", [pull]),
        zuul={"artifacts": [artifact("127.0.0.1", there.port, tag)]},
        buildset_registry=facts,
        **common,
    )
    assert handed.code == 0, handed.output
    assert f"{APP}:{tag} is {digest} at " in handed.output
    assert "0 B copied" in handed.output
    assert "Copy images between registries" not in handed.output
    assert pulled(facts, tag) == digest
    root = Path(str(parent.desk.variables["buildset_registry_root"]))
    (one,) = json.loads((root / "overlay" / "images.json").read_text())["handed"]
    for secret in (one["token"], facts["password"], PASSWORD):
        assert secret not in parent.output + child.output
    assert list(child.temporary.iterdir()) == []


def test_images_are_copied_where_a_parent_s_registry_takes_none(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served]
) -> None:
    """And the log says why."""
    there, own = world["ours"], world["second"]
    digest = built(there, "child-copied")
    child = ChildJob(make_desk("2.18"), clone, "2.18")
    pull = {**PULL, "vars": {"intermediate_registry": there.facts}}
    run = child.play(
        child.desk.write("child.yml", [pull]),
        zuul={"artifacts": [artifact("127.0.0.1", there.port, "child-copied")]},
        buildset_registry=own.facts,
    )
    assert run.code == 0, run.output
    why = f"the buildset registry 127.0.0.1:{own.port} takes no images of other builds (404): "
    assert f"the images are copied: {why}this registry has no overlay" in run.output
    assert own.digest(APP, "child-copied") == digest
