# SPDX-License-Identifier: Apache-2.0
"""The modules run and are documented wherever they are found: each way to have the collection.

In git a module is one file, in a role; elsewhere are links, which not every way keeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.roles.conftest import MakeDesk
from tests.roles.harness import ANSIBLE, REPOSITORY, ROLES, Desk
from tests.use.places import FACTS as USED
from tools.stage import copy_files

COLLECTION = "buildset.registry"
#: The facts of a registry that nothing can verify.
FACTS = {**USED, "cert": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}
MODULES = (
    "buildset_registry",
    "buildset_registry_clients",
    "buildset_registry_images",
    "buildset_registry_info",
    "buildset_registry_overlay",
)
NOT_RUNNING = """\
#!/bin/sh
echo '{"running": false, "facts": null}'
exit 3
"""


def galaxy(desk: Desk, *words: str | Path) -> None:
    """Run ``ansible-galaxy collection``."""
    program = (desk.environment / "bin" / "python", "-m", "ansible", "galaxy", "collection")
    done = desk.command(*program, *words)
    assert done.returncode == 0, done.stdout


def install_archive(desk: Desk) -> None:
    """Install the collection from an archive of what is published."""
    copy_files(desk.folder / "stage")
    galaxy(desk, "build", desk.folder / "stage", "--output-path", desk.folder)
    (archive,) = desk.folder.glob("*.tar.gz")
    galaxy(desk, "install", archive, "-p", desk.folder / "collections")


def install_from_git(desk: Desk) -> None:
    """Install the collection from what git has of it."""
    galaxy(desk, "install", f"git+file://{REPOSITORY}", "-p", desk.folder / "collections")


def link_checkout(desk: Desk) -> None:
    """Use a checkout as the collection."""
    namespace = desk.folder / "collections" / "ansible_collections" / "buildset"
    namespace.mkdir(parents=True)
    (namespace / "registry").symlink_to(REPOSITORY)


WAYS = [install_archive, install_from_git, link_checkout]
Way = Callable[[Desk], None]


@pytest.fixture(params=ANSIBLE)
def version(request: pytest.FixtureRequest) -> str:
    """Take each version of ansible-core."""
    return str(request.param)


@pytest.fixture
def collection(make_desk: MakeDesk, version: str) -> Desk:
    """Run playbooks where no role is found by a short name."""
    desk = make_desk(version)
    desk.roles = desk.folder / "no-roles"
    return desk


def documentation(desk: Desk, *words: str | Path) -> dict[str, Any]:
    """Ask ansible-doc."""
    done = desk.command(desk.environment / "bin" / "ansible-doc", "--json", *words)
    assert done.returncode == 0, done.stdout
    return dict(json.loads(done.stdout[done.stdout.index("{") :]))


def module_documentation(desk: Desk) -> dict[str, Any]:
    """Ask ansible-doc for the modules of the collection, each by its name."""
    return documentation(desk, *(f"{COLLECTION}.{name}" for name in MODULES))


def tell(desk: Desk, value: str) -> dict[str, Any]:
    """Write a task that keeps a value for the test."""
    copy = {"content": f"{{{{ {value} | to_json }}}}", "dest": str(desk.folder / "facts.json")}
    return {"ansible.builtin.copy": {**copy, "mode": "0600"}, "check_mode": False}


def command_of_a_stopped_registry(desk: Desk) -> Path:
    """Write a command that knows a registry which does not run."""
    command = desk.folder / "buildset-registry"
    command.write_text(NOT_RUNNING)
    command.chmod(0o755)
    return command


@pytest.mark.parametrize("way", WAYS)
def test_modules_of_the_collection_run(collection: Desk, way: Way) -> None:
    """Each finds its working code; defaults of the group reach them."""
    way(collection)
    command = command_of_a_stopped_registry(collection)
    options = {"root": str(collection.folder), "command": str(command)}
    plays = [
        {
            "hosts": "all",
            "gather_facts": False,
            "module_defaults": {f"group/{COLLECTION}.registry": options},
            "tasks": [
                {f"{COLLECTION}.buildset_registry": {"state": "stopped"}, "register": "stopped"},
                {f"{COLLECTION}.buildset_registry_info": {}, "register": "asked"},
            ],
        },
        {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                {f"{COLLECTION}.buildset_registry_clients": {"state": "absent"}},
                {f"{COLLECTION}.buildset_registry_images": {"action": "pull"}},
                {
                    f"{COLLECTION}.buildset_registry_overlay": {
                        "content": "e30=",
                        "command": str(command),
                    }
                },
                tell(collection, "{'changes': stopped.changes, 'status': asked.status}"),
            ],
        },
    ]
    run = collection.playbook(collection.write("modules.yml", plays), "--check")
    assert run.code == 0, run.output
    assert run.facts == {"changes": [], "status": {"running": False, "facts": None}}


@pytest.mark.parametrize("way", WAYS)
def test_modules_of_the_collection_are_documented(collection: Desk, way: Way) -> None:
    """ansible-doc knows each by its name, with what the fragments say."""
    way(collection)
    told = module_documentation(collection)
    assert set(told) == {f"{COLLECTION}.{name}" for name in MODULES}
    for attributes in (entry["doc"]["attributes"] for entry in told.values()):
        assert attributes["check_mode"]["support"] == "full"
        assert attributes["action_group"]["membership"] == [f"{COLLECTION}.registry"]
    registry, clients, _images, info, _overlay = (
        told[f"{COLLECTION}.{name}"]["doc"]["options"] for name in MODULES
    )
    assert registry["command"] == info["command"]
    assert clients["registry"]["suboptions"] == info["registry"]["suboptions"]


def test_published_modules_are_listed(collection: Desk) -> None:
    """ansible-doc passes over links when it lists; what is published has none."""
    install_archive(collection)
    listed = documentation(collection, "--list", COLLECTION)
    assert set(listed) == {f"{COLLECTION}.{name}" for name in MODULES}


def test_facts_are_taken_as_they_are_returned(collection: Desk) -> None:
    """The keys that one module returns are those that the others take, of the same types."""
    link_checkout(collection)
    registry, clients, _images, _info = module_documentation(collection).values()
    returned = registry["return"]["buildset_registry"]["contains"]
    taken = clients["doc"]["options"]["registry"]["suboptions"]
    types = {name: entry["type"] for name, entry in taken.items()}
    assert {name: entry["type"] for name, entry in returned.items()} == types


@pytest.fixture(params=["full", "sparse"])
def roles(request: pytest.FixtureRequest) -> Path:
    """Take the roles from a checkout of everything, and from what Zuul may make of it."""
    if request.param == "full":
        return ROLES
    return Path(request.getfixturevalue("clone")) / "roles"


@pytest.fixture
def checkout(make_desk: MakeDesk, roles: Path, version: str) -> Desk:
    """Run playbooks that find roles by their short names, and no collection."""
    desk = make_desk(version)
    desk.roles = roles
    return desk


def test_modules_of_roles_run(checkout: Desk) -> None:
    """Each role finds its modules, and they find their working code, where no collection is."""
    stopped = checkout.role("run_buildset_registry", buildset_registry_state="stopped")
    assert stopped.code == 0, stopped.output
    assert stopped.recap["changed"] == 0
    nobody = {**FACTS, "host": "127.0.0.1", "port": free_port(), "proxy_port": 5002}
    asked = checkout.role("run_buildset_registry", buildset_registry=nobody)
    assert "cannot be verified: cert is none" in asked.message
    used = checkout.role("use_buildset_registry", "--check", buildset_registry=USED)
    assert used.code == 0, used.output
    assert used.recap["changed"] == 1


def test_roles_are_documented(checkout: Desk) -> None:
    """ansible-doc knows the roles by what stands beside them."""
    names = ("run_buildset_registry", "use_buildset_registry")
    told = documentation(checkout, "--type", "role", "--roles-path", checkout.roles, *names)
    assert set(told) == set(names)


def test_check_takes_the_facts_of_a_registry_with_a_proxy(collection: Desk) -> None:
    """What the facts say of the proxy is no mistake of theirs."""
    link_checkout(collection)
    facts = {**FACTS, "host": "127.0.0.1", "port": free_port(), "proxy_port": free_port()}
    task = {f"{COLLECTION}.buildset_registry_info": {"registry": facts}}
    play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
    run = collection.playbook(collection.write("check.yml", [play]))
    assert "cannot be verified: cert is none" in run.message
