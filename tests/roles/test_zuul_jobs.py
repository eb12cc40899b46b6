# SPDX-License-Identifier: Apache-2.0
"""The jobs of ``zuul.d``, loaded by Zuul's own loader, and their playbooks, run as Zuul does."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
import yaml

from tests.interop.content import Pusher
from tests.roles.conftest import MakeDesk
from tests.roles.executor import PLUGINS, Job
from tests.roles.harness import REPOSITORY, environment_with, get
from tests.roles.intermediate import Served, intermediate, serving

LOADER = Path(__file__).with_name("zuul_tenant.py")
NODE = {"nodes": [{"name": "node", "label": "debian-12"}]}
BASE = [
    {"pipeline": {"name": "check", "manager": "independent", "trigger": {}}},
    {"pipeline": {"name": "gate", "manager": "independent", "trigger": {}}},
    {"job": {"name": "base", "parent": None, "post-run": "playbooks/logs.yaml", "nodeset": NODE}},
]
#: What docs/how-to/zuul.rst shows, and what docs/how-to/move-from-zuul-jobs.rst ends with.
EXAMPLES = REPOSITORY / "docs" / "examples"
APP, MOVED = EXAMPLES / "zuul.yaml", EXAMPLES / "moved-from-zuul-jobs.yaml"
#: What docs/how-to/changes-together.rst and docs/how-to/intermediate-registry.rst show.
TOGETHER = EXAMPLES / "changes-together"
OWN = "buildset-registry-tests"
ENDS = ["push", "stop"]
PLAYBOOKS = {
    "buildset-registry": {"pre_run": ["start"], "run": ["serve"], "post_run": ENDS},
    "buildset-registry-build-images": {
        "pre_run": ["start"],
        "run": ["build", "push"],
        "post_run": ["restore", *ENDS],
    },
    "buildset-registry-promote-images": {"run": ["promote"]},
    "buildset-registry-consumer": {"pre_run": ["use"], "run": ["used"], "post_run": ["restore"]},
    OWN: {"run": ["test"], "post_run": ["collect"]},
}
PHASES = ("pre_run", "run", "post_run")
#: An image of a job that has a registry of its own.
OWNED = "quay.io/org/owned"
INTERMEDIATE = "intermediate_registry"
SECRET = {"name": INTERMEDIATE, "secret": "site-intermediate-registry", "pass-to-parent": True}
PASSED: dict[str, Any] = {
    "name": "site-ready-images",
    "parent": "buildset-registry-build-images",
    "secrets": [SECRET],
}
CREDENTIALS = "container_registry_credentials"
LOGINS = {**SECRET, "name": CREDENTIALS, "secret": "site-public-registries"}

Load = Callable[..., dict[str, Any]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a tenant whose projects are its configuration, this repository, and an application."""
    python = environment_with("zuul==14.3.0") / "bin" / "python"
    shutil.copytree(REPOSITORY / "zuul.d", tmp_path / "buildset" / "registry" / "zuul.d")
    for project in ("tenant-config", "app", "base"):
        (tmp_path / project / "zuul.d").mkdir(parents=True)
    (tmp_path / "tenant-config" / "zuul.d" / "base.yaml").write_text(yaml.safe_dump(BASE))

    def run(ours: str | None = None, app: Path = APP) -> dict[str, Any]:
        (tmp_path / "app" / "zuul.d" / "app.yaml").write_text(app.read_text())
        if ours is not None:
            (tmp_path / "buildset" / "registry" / "zuul.d" / "jobs.yaml").write_text(ours)
        words = [str(python), str(LOADER), str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return run


@pytest.fixture
def between(tmp_path: Path) -> Iterator[Served]:
    """An intermediate registry."""
    with serving(tmp_path / "between", intermediate("ours")) as (served,):
        yield served


def pushing(facts: dict[str, Any]) -> httpx.Client:
    """Return a client of a push endpoint that is logged in."""
    base = f"https://{facts['push_host']}:{facts['push_port']}"
    verify = ssl.create_default_context(cadata=facts["cert"])
    login = (facts["username"], facts["password"])
    return httpx.Client(base_url=base, verify=verify, auth=login, trust_env=False)


def test_a_tenant_loads_and_inherits_them(load: Load) -> None:
    """Zuul takes them; what inherits keeps the playbooks that it does not replace."""
    told = load()
    assert told["errors"] == []
    built = told["jobs"]["build-images"]
    assert [play["path"] for play in built["pre_run"]] == ["playbooks/zuul/start.yml"]
    assert [(play["project"], play["path"]) for play in built["run"]] == [
        ("app", "playbooks/build.yaml")
    ]
    tested = told["jobs"]["test-images"]
    assert [play["path"] for play in tested["pre_run"]] == ["playbooks/zuul/use.yml"]
    # The base job's own comes last, which collects the logs.
    paths = [play["path"] for play in built["post_run"]]
    own = ["playbooks/zuul/push.yml", "playbooks/zuul/stop.yml"]
    assert paths == [*own, "playbooks/logs.yaml"]


def test_a_tenant_that_moved_from_zuul_jobs_loads(load: Load) -> None:
    """The site's own names of jobs stay, and are of this repository's now."""
    told = load(app=MOVED)
    assert told["errors"] == []
    for name, first in (("site-buildset-registry", "start"), ("site-consumer", "use")):
        (playbook,) = told["jobs"][name]["pre_run"]
        assert playbook["project"] == "buildset/registry"
        assert playbook["path"] == f"playbooks/zuul/{first}.yml"
    assert told["projects"]["app"] == {"check": ["build-images", "test-images"]}


def test_the_secret_is_the_config_project_s_alone(load: Load, tmp_path: Path) -> None:
    """As the pages on two projects say: jobs with the site's secret run before review.

    No playbook that a change can alter has it, unless a job passes it to this repository where that
    is an untrusted project: such a job waits for review.
    """
    config = tmp_path / "tenant-config" / "zuul.d"
    for name in ("config", "promote"):
        shutil.copy(TOGETHER / f"{name}.yaml", config)
    pipeline = {"name": "promote", "manager": "supercedent", "post-review": True, "trigger": {}}
    (config / "more.yaml").write_text(yaml.safe_dump([{"pipeline": pipeline}, {"job": PASSED}]))
    shutil.copy(TOGETHER / "base.yaml", tmp_path / "base" / "zuul.d")
    told = load(app=TOGETHER / "app.yaml")
    assert told["errors"] == []
    ours, site = "buildset/registry", "tenant-config"
    logs = (site, "playbooks/logs.yaml")
    # Jobs of other changes begin when the one that provides an image pauses: it must not, since
    # the push is in post-run. The one that pauses provides none.
    expected = {
        "build-app-image": {
            "pre_run": [(ours, "playbooks/zuul/use.yml")],
            "run": [("app", "playbooks/build.yaml")],
            "post_run": [
                (site, "playbooks/push-images.yaml"),
                (ours, "playbooks/zuul/restore.yml"),
                logs,
            ],
        },
        "app-buildset-registry": {
            "pre_run": [(ours, "playbooks/zuul/start.yml"), (site, "playbooks/pull-images.yaml")],
            "run": [(ours, "playbooks/zuul/serve.yml")],
            "post_run": [
                (ours, "playbooks/zuul/push.yml"),
                (ours, "playbooks/zuul/stop.yml"),
                logs,
            ],
        },
    }
    for name, plays in expected.items():
        job = told["jobs"][name]
        found = {phase: [(one["project"], one["path"]) for one in job[phase]] for phase in PHASES}
        assert found == plays
        assert job["post_review"] is False
        for one in (one for phase in PHASES for one in job[phase]):
            named = one["path"] in ("playbooks/pull-images.yaml", "playbooks/push-images.yaml")
            assert one["secrets"] == ([INTERMEDIATE] if named else [])
    (promotion,) = told["jobs"]["promote-base-image"]["run"]
    assert sorted(promotion["secrets"]) == ["container_registry_credentials", INTERMEDIATE]
    passed = told["jobs"][PASSED["name"]]
    assert passed["post_review"] is True
    assert [one["secrets"] for one in passed["run"]] == [[INTERMEDIATE]] * 2


@pytest.mark.parametrize("passed", [False, True])
def test_promotion_has_the_secrets_that_a_child_passes(
    load: Load, tmp_path: Path, passed: bool
) -> None:
    """As the description of the job says: those that are not passed do not reach its playbook."""
    config = tmp_path / "tenant-config" / "zuul.d"
    for name in ("config", "promote"):
        shutil.copy(TOGETHER / f"{name}.yaml", config)
    secrets = [{**one, "pass-to-parent": passed} for one in (SECRET, LOGINS)]
    name, parent = "site-ready-promotion", "buildset-registry-promote-images"
    child = {"job": {"name": name, "parent": parent, "secrets": secrets}}
    (config / "child.yaml").write_text(yaml.safe_dump([child]))
    told = load()
    assert told["errors"] == []
    (play,) = told["jobs"][name]["run"]
    assert play["path"] == "playbooks/zuul/promote.yml"
    assert sorted(play["secrets"]) == ([CREDENTIALS, INTERMEDIATE] if passed else [])


def test_this_repository_tests_itself(load: Load) -> None:
    """Each change of it is tested by .ci/run before it merges."""
    told = load()
    assert told["errors"] == []
    assert told["projects"]["buildset/registry"] == {"check": [OWN], "gate": [OWN]}


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_playbooks_are_there_and_find_their_roles(load: Load, name: str) -> None:
    """Each playbook is a file here, and Zuul gives it the roles of this repository."""
    job = load()["jobs"][name]
    for phase, expected in PLAYBOOKS[name].items():
        own = [play for play in job[phase] if play["project"] == "buildset/registry"]
        assert [play["path"] for play in own] == [f"playbooks/zuul/{name}.yml" for name in expected]
        for play in own:
            assert (REPOSITORY / play["path"]).is_file()
            assert "git.example.org/buildset/registry" in play["roles"]


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("pre-run:", "prerun:", "extra keys not allowed"),
        ("name: buildset-registry\n", "name: another\n", "Job buildset-registry not defined"),
        ("    post-run: playbooks/zuul/restore.yml", "    post-run: [[stop]]", "post-run"),
    ],
)
def test_zuul_says_what_is_wrong(load: Load, right: str, wrong: str, said: str) -> None:
    """A slip of the pen does not get past the loader."""
    ours = (REPOSITORY / "zuul.d" / "jobs.yaml").read_text()
    assert right in ours
    errors = load(ours.replace(right, wrong, 1))["errors"]
    assert any(said in error for error in errors), errors


@pytest.mark.parametrize("version", PLUGINS)
def test_registry_from_start_to_end(make_desk: MakeDesk, checkout: Path, version: str) -> None:
    """It serves between the first playbook and the last, and the job pauses for others."""
    job = Job(make_desk(version), checkout, version)
    playbooks = checkout / "playbooks" / "zuul"
    started = job.play(playbooks / "start.yml")
    assert started.code == 0, started.output
    facts = job.returned["secret_data"]["buildset_registry"]
    assert get(facts) == 200
    assert job.returned["data"]["zuul"]["pause"] is True
    served = job.play(playbooks / "serve.yml")
    assert f"push to {facts['push_host']}:{facts['push_port']}" in served.output
    assert get(facts, "push_", login=True) == 200
    stopped = job.play(playbooks / "stop.yml")
    assert stopped.code == 0, stopped.output
    assert not Path(job.desk.variables["buildset_registry_root"]).exists()
    logs = job.desk.home / "zuul-output/logs/buildset-registry"
    assert (logs / "registry.log").read_text()
    assert "<h1>Images of " in (logs / "report.html").read_text()
    assert json.loads((logs / "images.lock.json").read_text()) == {"version": 1, "images": {}}
    urls = [artifact["url"] for artifact in job.returned["data"]["zuul"]["artifacts"]]
    assert sorted(url.split("/")[-2:] for url in urls) == [
        ["buildset-registry", "images.lock.json"],
        ["buildset-registry", "report.html"],
    ]
    assert not any("://" in url for url in urls)
    # Zuul joins them to the URL of the build's logs, where the base job puts this folder.
    log_url = "https://logs.example.org/t/1f0/gate/build/7c1/"
    for url in urls:
        stored = urljoin(log_url, url).removeprefix(log_url)
        assert (logs.parent / stored).is_file()
    assert facts["password"] not in job.output


@pytest.mark.parametrize("version", PLUGINS)
def test_registry_of_a_parent(make_desk: MakeDesk, checkout: Path, version: str) -> None:
    """A job below another one uses its registry, starts none, and has nothing to pause for."""
    parent = Job(make_desk(version), checkout, version)
    playbooks = checkout / "playbooks" / "zuul"
    parent.play(playbooks / "start.yml")
    child = Job(make_desk(version), checkout, version)
    given = parent.returned["secret_data"]
    for name in ("start", "serve", "stop"):
        run = child.play(playbooks / f"{name}.yml", **given)
        assert run.code == 0, run.output
    assert not child.results.read_text()
    assert get(given["buildset_registry"]) == 200
    assert given["buildset_registry"]["password"] not in child.output


@pytest.mark.parametrize("version", PLUGINS)
def test_a_registry_of_its_own_below_a_parent(
    make_desk: MakeDesk, checkout: Path, between: Served, version: str
) -> None:
    """A job that wants no other's pauses for its own, and gives away what that one has."""
    playbooks = checkout / "playbooks" / "zuul"
    child = Job(make_desk(version), checkout, version)
    # Nothing has to answer there.
    child.inherited = {"buildset_registry": {**between.facts, "host": "parent.invalid"}}
    build = "d" * 32
    given: dict[str, Any] = {
        "buildset_registry_reuse": False,
        "intermediate_registry": between.facts,
        "container_images": [{"repository": OWNED, "tags": ["own"]}],
        "zuul_success": True,
        "zuul": {"build": build},
    }
    started = child.play(playbooks / "start.yml", **given)
    assert started.code == 0, started.output
    facts = child.returned["secret_data"]["buildset_registry"]
    assert facts["port"] == child.desk.variables["buildset_registry_port"]
    assert child.returned["data"]["zuul"]["pause"] is True
    served = child.play(playbooks / "serve.yml", **given)
    assert f"push to {facts['push_host']}:{facts['push_port']}" in served.output
    with pushing(facts) as client:
        digest = Pusher(client).image(OWNED, b"of its own", "own")
    pushed = child.play(playbooks / "push.yml", **given)
    assert pushed.code == 0, pushed.output
    assert between.digest(OWNED, f"{build}_own") == digest
    assert child.play(playbooks / "stop.yml", **given).code == 0
    assert not Path(child.desk.variables["buildset_registry_root"]).exists()
    assert facts["password"] not in child.output


@pytest.mark.parametrize("version", PLUGINS)
def test_what_is_missing_is_named(make_desk: MakeDesk, checkout: Path, version: str) -> None:
    """A registry wants a node; a consumer wants a registry."""
    job = Job(make_desk(version), checkout, version, host="localhost")
    playbooks = checkout / "playbooks" / "zuul"
    refused = job.play(playbooks / "start.yml")
    assert refused.code != 0
    assert "give the job a nodeset" in refused.output
    refused = job.play(playbooks / "use.yml")
    assert refused.code != 0
    assert "name one that inherits from buildset-registry under dependencies" in refused.output


@pytest.mark.parametrize("version", PLUGINS)
@pytest.mark.parametrize("code", [0, 3])
def test_what_ci_runs(make_desk: MakeDesk, checkout: Path, version: str, code: int) -> None:
    """The job is as good as .ci/run, in the folder that Zuul has put on the node; logs are kept."""
    job = Job(make_desk(version), checkout, version)
    source = job.desk.home / "src" / "git.example.org" / "buildset" / "registry"
    (source / ".ci").mkdir(parents=True)
    script = source / ".ci" / "run"
    script.write_text(
        f"#!/bin/sh\nmkdir -p build/logs && id -u >build/logs/tests.log; exit {code}\n"
    )
    script.chmod(0o755)
    playbooks = checkout / "playbooks" / "zuul"
    project = {"src_dir": "src/git.example.org/buildset/registry"}
    assert (job.play(playbooks / "test.yml", zuul={"project": project}).code == 0) == (code == 0)
    assert job.play(playbooks / "collect.yml", zuul={"project": project}).code == 0
    kept = job.desk.home / "zuul-output/logs/buildset-registry-tests/logs/tests.log"
    assert kept.read_text() == "0\n"
