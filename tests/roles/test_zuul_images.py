# SPDX-License-Identifier: Apache-2.0
"""Jobs as they are written for zuul-jobs: built, pushed by the alias, pulled on another node.

By an ordinary user with sudo, without ``become``. On one node our role is alone; on the other one
the roles of zuul-jobs configure the node as well: before ours by the one Ansible, after it by the
other. Then images of another change come by an intermediate registry (``consumers``). In the end
the report on all of it is opened from the build's logs (``stored``). What the jobs did, and what
crossed the executor, is in ``build/reports/zuul-images-VERSION.txt``, with pictures of the report.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from tests.browser import SCHEMES, WIDTHS, browsing
from tests.interop.registries import PASSWORD
from tests.lab.host import USER
from tests.roles import buildset, harness, stored, zuul_jobs
from tests.roles.buildset import BESIDE, FILES, NAMESPACES, NODES, PLAIN, Nodes, NodesJob
from tests.roles.conftest import clone_roles
from tests.roles.consumers import APP, PROGRAMS, Consumed, consume
from tests.roles.executor import PLUGINS
from tests.roles.harness import Desk, Run
from tests.roles.intermediate import KINDS, Served
from tests.roles.stored import StoredBuild
from tests.roles.zuul_jobs import Task
from tests.roles.zuul_jobs_node import ALIAS

Play = dict[str, Any]

ORDER = {"2.16": "before", "2.18": "after"}
BUILD = f"/home/{USER}/build"
#: The files of a node when the other roles were done.
THEIRS = f"{BUILD}/theirs"
REPORTS = harness.REPOSITORY / "build" / "reports"
TOOLS = ("podman", "docker", "buildx")
PULLING = {
    "podman": "podman pull -q {0} >/dev/null && podman image inspect --format '{{{{.Digest}}}}' {0}"
    " && podman rmi -f {0} >/dev/null",
    "docker": "docker pull -q {0} >/dev/null && docker image inspect --format"
    " '{{{{index .RepoDigests 0}}}}' {0} | cut -d@ -f2; docker rmi -f {0} >/dev/null",
    "skopeo": "echo sha256:$(skopeo inspect --raw docker://{0} | sha256sum | cut -c -64)",
}
PROMOTED = "quay.io/org/promoted"
#: What a container of the test's builder, or somebody else, has nothing to do with.
RESTARTS = {"docker": "restart-docker", "containerd": "true"}

pytestmark = pytest.mark.timeout(900)


@dataclass
class Buildset:
    """A buildset: its nodes, its job, and what became of both."""

    nodes: Nodes
    job: NodesJob
    order: str
    facts: dict[str, Any] = field(default_factory=dict)
    before: dict[str, dict[str, str]] = field(default_factory=dict)
    again: dict[str, Any] = field(default_factory=dict)
    pulled: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """Digests by the image's node and tool, and by who pulled it by which name."""

    pushed: dict[tuple[str, str], str] = field(default_factory=dict)
    base: str = ""
    promoted: str = ""
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    by_theirs: list[str] = field(default_factory=list)
    consumed: Consumed | None = None
    stored: StoredBuild | None = None

    def play(self, *plays: Play) -> Run:
        """Run a playbook of the job; it goes well."""
        given = {"buildset_registry": self.facts} if self.facts else {}
        run = self.job.play(self.job.desk.write("job.yml", list(plays)), **given)
        assert run.code == 0, run.output
        return run

    def use(self, **variables: Any) -> Play:
        """Use the registry on both nodes, as jobs for zuul-jobs include the role."""
        given = {"buildset_registry_namespaces": NAMESPACES, **variables}
        given |= {"buildset_registry_restart_commands": RESTARTS}
        told = {"content": "{{ __buildset_registry_use | to_json }}", "dest": f"{BUILD}/told"}
        keep = {"ansible.builtin.copy": told, "changed_when": False, "no_log": True}
        return {
            "hosts": "all",
            "roles": ["use_buildset_registry"],
            "vars": given,
            "post_tasks": [keep],
        }

    def configure(self) -> None:
        """Configure the nodes; the other roles come before ours, or after it."""
        keep = zuul_jobs.command("sh", "-c", f"[ -e {THEIRS} ] || ({FILES}) >{THEIRS}", become=True)
        others = {"hosts": BESIDE, "tasks": [zuul_jobs.configure(), keep]}
        plays = {"before": [others, self.use()], "after": [self.use(), others]}
        self.play(*plays[self.order])

    def told(self, node: str) -> dict[str, Any]:
        """Tell what our role said on a node."""
        return dict(json.loads(self.nodes.run(node, f"cat {BUILD}/told")))


def start(made: Buildset) -> None:
    """Start the registry on one node, by its role, with the port that zuul-jobs' roles know."""
    made.before = {node: made.nodes.files(node) for node in NODES}
    given = {"buildset_registry_single_port": True, "buildset_registry_namespaces": NAMESPACES}
    role = {"hosts": PLAIN, "roles": ["run_buildset_registry"], "vars": given}
    made.play({"hosts": "all", "tasks": [{"zuul_console": {}}]}, role)
    made.facts = made.job.returned["secret_data"]["buildset_registry"]


def build(made: Buildset) -> None:
    """Build and push a base, and from its public name an image by each tool on each node."""
    base, image = f"{BUILD}/base", "org/{{ inventory_hostname }}-%s"
    first = [*_context(base, "scratch", "busybox"), zuul_jobs.command("cp", "/bin/busybox", base)]
    first += zuul_jobs.build_container_image("podman", "org/base", base)
    tasks = _context(BUILD, "docker.io/org/base:latest", "words")
    for tool in ("podman", "docker"):
        tasks += zuul_jobs.build_container_image(tool, image % tool, BUILD)
    tasks += [*zuul_jobs.build_docker_image(image % "buildx", BUILD), zuul_jobs.alias()]
    made.play({"hosts": PLAIN, "tasks": first}, {"hosts": "all", "tasks": tasks})
    made.base = made.nodes.run(PLAIN, f"cat {base}/podman.digest").strip()
    for node in NODES:
        said = made.nodes.run(node, f"cd {BUILD}; cat podman.digest docker.digest buildx.digest")
        digests = re.findall("sha256:[0-9a-f]{64}", said)
        made.pushed.update({(node, tool): one for tool, one in zip(TOOLS, digests, strict=True)})


def _context(folder: str, base: str, content: str) -> list[Task]:
    words = f"FROM {base}\nCOPY {content} /{content}\n"
    files = {"Dockerfile": words, "words": "built on {{ inventory_hostname }}\n"}
    writes = [{"content": text, "dest": f"{folder}/{name}"} for name, text in files.items()]
    made = zuul_jobs.command("mkdir", "-p", folder)
    return [made, *({"ansible.builtin.copy": write} for write in writes)]


def pull(made: Buildset) -> None:
    """Pull on each node what was pushed on the other one: by the alias, and by its public name."""
    script = "{% raw %}set -e; exec >pulled; "
    wanted = [
        (tool, program, name)
        for tool in TOOLS
        for program in PULLING
        for name in (f"{ALIAS}:{made.facts['port']}", "docker.io")
    ]
    for tool, program, name in wanted:
        script += PULLING[program].format(f"{name}/org/$other-{tool}:latest") + "; "
    # Both at once.
    given = dict(zip(NODES, NODES[::-1], strict=True))
    task = zuul_jobs.command("sh", "-c", f"{script}{{% endraw %}}", folder=BUILD)
    task["environment"] = {"other": f"{{{{ {given}[inventory_hostname] }}}}"}
    made.play({"hosts": "all", "tasks": [task]})
    for node, other in given.items():
        digests = made.nodes.run(node, f"cat {BUILD}/pulled").split()
        for (tool, program, name), digest in zip(wanted, digests, strict=True):
            made.pulled[other, tool, f"{program} on {node} by {name}"] = digest


def promote(made: Buildset) -> None:
    """Copy what was uploaded for a change to the tag that everybody pulls, by public names."""
    public = f"docker://{PROMOTED}"
    base = f"docker://{zuul_jobs.ADDRESS}/org/base:latest"
    upload = zuul_jobs.command("skopeo", "copy", base, f"{public}:change_1_latest")
    made.play({"hosts": BESIDE, "tasks": [upload, zuul_jobs.promote_container_image(PROMOTED)]})
    # Where there is no mirror.
    ask = f"skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' {public}:latest"
    made.promoted = made.nodes.run(buildset.PUBLIC, ask).strip()


def undo(made: Buildset) -> None:
    """Undo our role, and see what is there, and what the other roles' configuration is good for."""
    made.play(made.use(buildset_registry_state="absent"))
    made.left = {node: made.nodes.files(node) for node in NODES}
    image = f"org/{PLAIN}-docker:latest"
    for name in (f"{ALIAS}:{made.facts['port']}", "docker.io"):
        script = "; ".join(PULLING[one].format(f"{name}/{image}") for one in ("podman", "docker"))
        made.by_theirs += made.nodes.run(BESIDE, script, USER).split()


def report(made: Buildset, version: str) -> None:
    """Leave a table of what was pushed and pulled, and of second runs."""
    lines = [f"ansible-core {version}; zuul-jobs' roles {made.order} ours on {BESIDE}"]
    for (node, tool), digest in made.pushed.items():
        lines.append(f"{tool} on {node} pushed {digest}")
        pulled = {who: got for (*key, who), got in made.pulled.items() if key == [node, tool]}
        lines += [f"    {who}: {got}" for who, got in pulled.items()]
    lines += [f"second run on {node}: changed {told}" for node, told in made.again.items()]
    if made.consumed:
        lines += ["crossed the executor", *made.consumed.crossed]
        lines += [f"{' '.join(who)}: {got}" for who, got in made.consumed.pulled.items()]
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"zuul-images-{version}.txt").write_text("\n".join([*lines, ""]))


def run_jobs(version: str, program: Path, world: dict[str, Served], stack: ExitStack) -> Buildset:
    """Run the jobs of a buildset; its nodes end with the stack."""
    # A short name: ssh has sockets there.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="buildset-nodes-")))
    desk = Desk(folder / "desk", harness.ansible_environment(version))
    desk.home.mkdir(parents=True)
    desk.variables = {"buildset_registry_venv": str(program)}
    desk.variables["buildset_registry_package"] = str(harness.wheelhouse())
    nodes = stack.enter_context(buildset.running(folder, program))
    clone = clone_roles(folder / "clone")
    made = Buildset(nodes, nodes.job(desk, clone, version), ORDER[version])
    start(made)
    made.configure()
    build(made)
    pull(made)
    first = Desk(folder / "first", desk.environment)
    first.home.mkdir(parents=True)
    jobs = nodes.job(first, clone, version), made.job
    made.consumed = consume(nodes, jobs, made.facts, world)
    promote(made)
    made.configure()
    made.again = {node: made.told(node)["paths"] for node in NODES}
    report(made, version)
    undo(made)
    made.stored = stored.store(nodes, made.job, PLAIN)
    return made


@pytest.fixture(scope="module")
def buildsets(program: Path, world: dict[str, Served]) -> Iterator[dict[str, Future[Buildset]]]:
    """One by each Ansible, at the same time: most of it is waiting."""
    with ExitStack() as stack, ThreadPoolExecutor(len(PLUGINS)) as pool:
        stacks = {version: stack.enter_context(ExitStack()) for version in PLUGINS}
        yield {one: pool.submit(run_jobs, one, program, world, stacks[one]) for one in PLUGINS}


@pytest.fixture(params=PLUGINS)
def version(request: pytest.FixtureRequest) -> str:
    """The version of Ansible that the jobs ran by."""
    return str(request.param)


@pytest.fixture
def made(version: str, buildsets: dict[str, Future[Buildset]]) -> Buildset:
    """A buildset whose jobs have run."""
    return buildsets[version].result()


def test_what_is_built_is_pulled_on_another_node(made: Buildset) -> None:
    """Each tool's image by each tool, by the alias and by its public name: the digest pushed."""
    expected = {key: made.pushed[key[0], key[1]] for key in made.pulled}
    assert len(set(made.pushed.values())) == len(NODES) * len(TOOLS)
    assert len(expected) == len(made.pushed) * len(PULLING) * 2
    assert made.pulled == expected


def test_images_of_another_change_are_pulled_on_both_nodes(made: Buildset) -> None:
    """By podman and docker, by public names, with each kind of registry between: A's digests."""
    found = made.consumed
    assert found
    wrong = {who: got for who, got in found.pulled.items() if found.made[who[-1]] not in got}
    assert wrong == {}
    assert len(found.pulled) == len(NODES) * (len(KINDS) * len(PROGRAMS) * len(found.made) + 1)
    assert found.referrers == [found.signature]
    assert found.promoted == dict.fromkeys(KINDS, found.made[APP])
    assert sum("bytes from it" in line for line in found.crossed) >= 3 * len(KINDS)


def test_second_runs_change_nothing(made: Buildset) -> None:
    """Neither where our role is alone nor beside those of zuul-jobs."""
    assert made.again == {PLAIN: [], BESIDE: []}


def test_a_change_is_promoted_by_public_names(made: Buildset) -> None:
    """What was uploaded for a change is copied within the public registry, by its names."""
    assert made.promoted == made.base


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Tell the files that are no more what they were."""
    return [name for name in before if before[name] != after.get(name)]


def test_undoing_leaves_what_the_other_roles_wrote(made: Buildset) -> None:
    """Byte for byte where they came first; where they came last, the node goes on by theirs."""
    # The roles that build an image write the alias as well, unless it is there in their spelling.
    assert changed(made.before[PLAIN], made.left[PLAIN]) == ["/etc/hosts"]
    line = f"{made.facts['host']}\t{ALIAS}"
    assert line in made.nodes.run(PLAIN, "cat /etc/hosts").splitlines()
    for node in NODES:
        added = sorted(made.left[node].keys() - made.before[node].keys())
        assert [name for name in added if "buildset-registry." in name and ALIAS not in name] == []
    if made.order == "before":
        assert changed(made.nodes.kept(BESIDE, THEIRS), made.left[BESIDE]) == []
    assert set(made.by_theirs) == {made.pushed[PLAIN, "docker"]}


def test_no_password_is_in_the_logs_of_the_job(made: Buildset) -> None:
    """Of no playbook, at -vvv."""
    assert "TASK [use_buildset_registry" in made.job.output
    assert made.facts["password"] not in made.job.output
    assert made.consumed
    assert PASSWORD not in made.consumed.output


def test_zuul_stores_the_report_and_the_lock(made: Buildset, version: str) -> None:
    """As artifacts of the build, each by the URL of a file among its logs."""
    build = made.stored
    assert build
    place = f"{build.url}{PLAIN}/buildset-registry"
    assert sorted(build.artifacts, key=itemgetter("name")) == [
        {
            "name": "Images of the buildset registry",
            "url": f"{place}/report.html",
            "metadata": {"type": "buildset_registry_report"},
        },
        {
            "name": "Lock of the buildset registry's images",
            "url": f"{place}/images.lock.json",
            "metadata": {"type": "buildset_registry_lock"},
        },
    ]
    assert json.loads(build.file("lock"))["version"] == 1
    report = build.file("report")
    (REPORTS / f"zuul-report-{version}.html").write_text(report)
    assert made.consumed
    digests = {*made.pulled.values(), *made.consumed.made.values()}
    assert [one for one in digests if one not in report] == []


def test_the_report_opens_from_the_logs_of_the_build(made: Buildset, version: str) -> None:
    """By its artifact's URL, in a browser that finds nothing to object to: each at one width."""
    assert made.stored
    url, width = made.stored.artifact("report")["url"], WIDTHS[[*PLUGINS].index(version)]
    faults = []
    with browsing() as browser:
        for scheme in SCHEMES:
            page = browser.show(url, width, scheme)
            (REPORTS / f"zuul-report-{version}-{width}-{scheme}.png").write_bytes(page.picture)
            faults += page.faults(url)
    assert faults == []
