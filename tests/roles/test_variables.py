# SPDX-License-Identifier: Apache-2.0
"""Variables of the roles and of the jobs' playbooks, as Ansible makes them of what is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, nodes

from tests.roles.conftest import MakeDesk
from tests.roles.harness import REPOSITORY, ROLES, Desk

VERSIONS = ["2.16", "2.18", "newest"]
JOBS = REPOSITORY / "playbooks" / "zuul"
PULL, PUSH = "pull_from_intermediate_registry", "push_to_intermediate_registry"
INSTALL, RUN, USE = (f"{one}_buildset_registry" for one in ("install", "run", "use"))
INTERMEDIATE = "run_intermediate_registry"
#: The one that plays run on is not the first by name.
NODES = {"zebra": {"ansible_connection": "local"}, "apple": {"ansible_connection": "local"}}
#: One host has a value that is no literal of Python's, the other one that cannot be rendered.
ADDRESSED = """\
all:
  hosts:
    first:
      ansible_host: 192.0.2.1
      released: 2024-05-01
    second:
      nodepool: {private_ipv4: 10.0.0.2, public_ipv4: 198.51.100.2, public_ipv6: "2001:db8::2"}
      broken: "{{ lookup('ansible.builtin.file', '/none/there') }}"
"""


def copied(desk: Desk, content: str, name: str = "facts.json") -> dict[str, Any]:
    """Return a task that writes text into the desk's folder."""
    written = {"content": content, "dest": str(desk.folder / name), "mode": "0600"}
    return {"ansible.builtin.copy": written}


def evaluate(
    desk: Desk, expressions: dict[str, str], files: list[Path], *options: str, **given: Any
) -> dict[str, Any]:
    """Return what expressions are on the controller, with the variables of some files."""
    listed = ", ".join(f"'{name}': {one}" for name, one in expressions.items())
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(file) for file in files],
        "tasks": [copied(desk, f"{{{{ {{ {listed} }} | to_json }}}}")],
    }
    run = desk.playbook(desk.write("evaluate.yml", [play]), *options, **given)
    assert run.facts is not None, run.output
    return run.facts


def of(role: str, folder: str = "vars") -> Path:
    """Return a file of variables of a role."""
    return ROLES / role / folder / "main.yml"


def conditions(tree: Any) -> Iterator[str]:
    """Yield what tasks are run on, in a file of tasks or plays."""
    for one in tree if isinstance(tree, list) else []:
        given = one.get("when", [])
        yield from map(str, given if isinstance(given, list) else [given])
        for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from conditions(one.get(key))


def is_true_or_false(node: nodes.Node) -> bool:
    """Tell whether an expression is nothing else; a name is that of a variable which is."""
    if isinstance(node, nodes.And | nodes.Or):
        return is_true_or_false(node.left) and is_true_or_false(node.right)
    if isinstance(node, nodes.Filter):
        return node.name == "bool"
    return isinstance(node, nodes.Compare | nodes.Test | nodes.Not | nodes.Name)


def test_tasks_are_run_on_what_is_true_or_false() -> None:
    """From ansible-core 2.19 on, a list that may be empty is an error."""
    found = []
    for file in sorted([*ROLES.glob("*/tasks/*.yml"), *(REPOSITORY / "playbooks").rglob("*.yml")]):
        for one in conditions(yaml.safe_load(file.read_text())):
            tree = Environment(autoescape=True).parse(f"{{{{ {one} }}}}")
            (output,) = tree.find_all(nodes.Output)
            if not is_true_or_false(output.nodes[0]):
                found.append(f"{file.relative_to(REPOSITORY)}: {one}")
    assert found == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("role", [PULL, PUSH, "promote_container_image"])
def test_a_role_that_carries_images_succeeds_where_there_are_none(
    make_desk: MakeDesk, version: str, role: str
) -> None:
    """All of them did nothing but fail on the newest one."""
    own = {"host": "127.0.0.1", "port": 1, "username": "zuul", "password": "not-to-be-seen"}
    run = make_desk(version).role(
        role,
        container_images=[],
        zuul={"build": "a" * 32, "change": "41", "patchset": "2"},
        zuul_artifacts=[{"name": "report"}],
        buildset_registry={**own, "cert": ""},
        intermediate_registry=own,
        promote_container_image_method="tag",
    )
    assert run.code == 0, run.output


@pytest.mark.parametrize("seed", ["1", "2", "3", "4"])
def test_the_first_node_is_the_one_that_plays_run_on(desk: Desk, seed: str) -> None:
    """Whatever order Python gives to a set of names."""
    inventory = desk.folder / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": NODES}}))
    desk.settings["PYTHONHASHSEED"] = seed
    first: dict[str, str] = {}
    for name in ("start", "push"):
        plays = [one.get("vars", {}) for one in yaml.safe_load((JOBS / f"{name}.yml").read_text())]
        (first[name],) = [one["first_node"] for one in plays if "first_node" in one]
    on_node = {"hosts": "all[0]", "tasks": [copied(desk, "{{ inventory_hostname }}", "node")]}
    both = copied(desk, "{{ {'start': start, 'push': push} | to_json }}")
    here = {"hosts": "localhost", "vars": first, "tasks": [both]}
    plays = [{"gather_facts": False, **play} for play in (on_node, here)]
    run = desk.playbook(desk.write("first.yml", plays), "-i", str(inventory))
    assert run.facts == dict.fromkeys(first, "zebra"), run.output
    assert (desk.folder / "node").read_text() == "zebra"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("timeout", "token", "overlay"), [(None, 21600, 86400), (1800, 3600, 7200)]
)
def test_tokens_live_as_long_as_a_job_may(
    make_desk: MakeDesk, version: str, timeout: int | None, token: int, overlay: int
) -> None:
    """Zuul has none for the timeout of a job that does not say it."""
    wanted = {"token": "__buildset_registry_token_seconds"}
    wanted["overlay"] = "buildset_registry_overlay_seconds"
    files = [of(PUSH), of(PULL, "defaults")]
    found = evaluate(make_desk(version), wanted, files, zuul={"timeout": timeout})
    assert {name: int(one) for name, one in found.items()} == {"token": token, "overlay": overlay}


@pytest.mark.parametrize("version", VERSIONS)
def test_addresses_of_hosts_whose_other_variables_cannot_be_read(
    make_desk: MakeDesk, version: str
) -> None:
    """They are not looked at, neither for a push nor for the report when a registry is stopped."""
    desk = make_desk(version)
    inventory = desk.folder / "inventory.yml"
    inventory.write_text(ADDRESSED)
    given: dict[str, Any] = {
        "buildset_registry_command": "command",
        "buildset_registry_log_dir": "/log",
        "buildset_registry_root": "",
    }
    wanted = {"hosts": "__buildset_registry_host_addresses"}
    options = ["-i", str(inventory)]
    pushed = evaluate(desk, wanted, [of(PUSH)], *options, **given)
    assert [pair for pair in pushed["hosts"] if pair[1]] == [
        ["second", "10.0.0.2"],
        ["second", "198.51.100.2"],
        ["second", "2001:db8::2"],
        ["first", "192.0.2.1"],
        ["first", "first"],
        ["second", "second"],
    ]
    wanted = {"command": "__buildset_registry_report_command"}
    reported = evaluate(desk, wanted, [of(RUN)], *options, **given)
    assert [word for word in reported["command"] if word.startswith("--node=")] == [
        "--node=second=10.0.0.2",
        "--node=second=198.51.100.2",
        "--node=first=192.0.2.1",
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_libraries_are_those_of_all_that_is_asked_for(make_desk: MakeDesk, version: str) -> None:
    """By the role's variables, by its settings, which count more, and by what it passes on."""
    desk, wanted = make_desk(version), {"extras": "__intermediate_registry_extras"}
    files = [of(INTERMEDIATE), of(INTERMEDIATE, "defaults")]
    names = {"names": ["registry.example.com"]}
    bucket: dict[str, Any] = {"s3": {"bucket": "images"}, "redirect": {"disable": True}}
    by_variables = {"intermediate_registry_storage": bucket, "intermediate_registry_acme": names}
    by_settings = {"intermediate_registry_settings": {"storage": bucket, "acme": names}}
    for some in (by_variables, by_settings):
        found = evaluate(desk, wanted, files, **some, buildset_registry_extras="oss, s3")
        assert sorted(found["extras"]) == ["acme", "oss", "s3"]
    assert evaluate(desk, wanted, files) == {"extras": []}


def test_several_hosts_may_have_their_bucket_in_the_settings(desk: Desk) -> None:
    """What the settings say counts more than the variable, which is a folder by default."""
    users = [{"name": "zuul", "password": "word", "access": "write"}]
    tell = copied(desk, "{{ {'mistakes': __intermediate_registry_mistakes} | to_json }}")
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [str(of(INTERMEDIATE, "defaults")), str(of(INTERMEDIATE))],
        "tasks": [{**tell, "run_once": True}],
    }
    playbook, both = desk.write("hosts.yml", [play]), ["-i", "one,two,", "-c", "local"]
    told = "several hosts need images in one place"
    run = desk.playbook(playbook, *both, intermediate_registry_users=users)
    assert run.facts is not None, run.output
    assert told in run.facts["mistakes"][0]
    settings = {"storage": {"s3": {"bucket": "images"}}}
    given = {"intermediate_registry_settings": settings, "intermediate_registry_users": users}
    assert desk.playbook(playbook, *both, **given).facts == {"mistakes": []}


def test_settings_that_are_no_mapping_are_told(desk: Desk) -> None:
    """The task that takes them hides its output, and the reason with it."""
    users = [{"name": "zuul", "password": "word", "access": "write"}]
    given = {"intermediate_registry_settings": {"auth": ["rules"]}}
    wanted = {"wrong": "__intermediate_registry_mistakes"}
    files = [of(INTERMEDIATE), of(INTERMEDIATE, "defaults")]
    found = evaluate(desk, wanted, files, intermediate_registry_users=users, **given)
    assert found["wrong"][0].startswith("auth in intermediate_registry_settings is not a mapping")


def test_a_job_that_names_no_images_is_told_so(desk: Desk) -> None:
    """By another name than the roles know, nothing was pushed or published, without a word."""
    wanted = {"why": "__buildset_registry_not_now"}
    files = [of(PUSH), of(PUSH, "defaults")]
    told = "neither container_images nor docker_images is set"
    assert told in evaluate(desk, wanted, files, container_image=[])["why"]
    for name in ("container_images", "docker_images"):
        assert evaluate(desk, wanted, files, **{name: []}) == {"why": ""}
    run = desk.role("promote_container_image", container_image=[])
    assert run.code != 0
    assert told in run.message


@pytest.mark.parametrize("version", VERSIONS)
def test_values_that_are_given_as_text(make_desk: MakeDesk, version: str) -> None:
    """As -e NAME=VALUE gives them, and what is made of another variable."""
    desk = make_desk(version)
    (waiting, *_rest) = yaml.safe_load((ROLES / INTERMEDIATE / "tasks/certificate.yml").read_text())
    given: dict[str, Any] = {
        "role_path": "/role",
        "retries": waiting["retries"],
        "intermediate_registry_certificate_seconds": "300",
        "intermediate_registry_metrics": {"port": "9002", "address": "127.0.0.1"},
        "buildset_registry_extras": "s3, acme",
        "buildset_registry_users": "alice, bob",
        "__buildset_registry_who": {"stdout": "0:root::"},
        "__intermediate_registry_rules": [],
    }
    installed = {"bundle": "__buildset_registry_bundle"}
    files = [of(INSTALL), of(INSTALL, "defaults")]
    assert "--extras 's3, acme'" in evaluate(desk, installed, files, **given)["bundle"]
    used = {"users": "__buildset_registry_logged_in"}
    files = [of(USE), of(USE, "defaults")]
    assert evaluate(desk, used, files, **given)["users"] == ["root", "alice", "bob"]
    wanted = {"metrics": "__intermediate_registry_settings.metrics", "retries": "retries"}
    files = [of(INTERMEDIATE), of(INTERMEDIATE, "defaults")]
    found = evaluate(desk, wanted, files, **given)
    assert found["metrics"] == {"port": 9002, "address": "127.0.0.1"}
    assert int(found["retries"]) == 150
    given["intermediate_registry_metrics"] = {"port": "many"}
    assert evaluate(desk, wanted, files, **given)["metrics"] == {"port": "many"}
