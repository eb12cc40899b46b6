# SPDX-License-Identifier: Apache-2.0
"""The tiers of the test suite, each a session with an environment of its own.

``make test`` runs them all and sums up; ``.venv/bin/nox -s tests -- -k upload`` runs one with what
stands after ``--`` given to pytest. This file is the only list of tiers: ``tools/tiers.py`` starts
them in the order in which they stand here, side by side where what they declare allows it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nox

sys.path.append(str(Path(__file__).parent))
from tools import indexes

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"

#: The tools want 3.11 or newer; the registry itself runs on 3.10, where .venv may be made of it.
PYTHON = None if sys.version_info >= (3, 11) else "3.11"
PAYLOAD = "registry/src/buildset_registry"
ANTSIBULL_DOCS = ("antsibull-docs", "--config-file", "tools/antsibull.cfg")
#: A machine of its own, where the tests may change what they like.
ENCLOSED = "tests/clients/enclosed"
CLIENTS = "roles/use_buildset_registry/module_utils/buildset_clients"
COMMAND = "roles/run_buildset_registry/module_utils/buildset_command"
IMAGES = "roles/push_to_intermediate_registry/module_utils/buildset_images"
CACHE = Path(
    os.environ.get("BUILDSET_TEST_CACHE", Path.home() / ".cache" / "buildset-registry-tests")
)
#: Of tools/go-tools, where several tiers run them.
BUILDKIT = ("buildctl", "buildkitd")
CONTAINERD = ("containerd", "containerd-shim-runc-v2", "ctr", "dockerd")
BENCHED = ("minio", "registry", "crane")
STORES = ("minio", "versitygw", "fake-gcs-server")
QUADLET = ("quadlet",)
ACME = ("pebble",)
#: How long a test that is interrupted may take to clean up.
INTERRUPTED_SECONDS = 10


@dataclass(frozen=True)
class Tier:
    """A session that ``make test`` runs, and what it needs."""

    #: Tiers whose results it uses.
    after: tuple[str, ...] = ()
    #: What it runs of tools/go-tools.
    tools: tuple[str, ...] = ()
    #: Its figures and time limits are spoiled by what runs beside it.
    alone: bool = False


TIERS: dict[str, Tier] = {}


def tier(
    after: tuple[str, ...] = (), tools: tuple[str, ...] = (), alone: bool = False
) -> Callable[[Callable[..., None]], Any]:
    """Make a session a tier of ``make test``."""

    def declare(function: Callable[..., None]) -> Any:
        TIERS[function.__name__] = Tier(after, tools, alone)
        return nox.session(python=PYTHON)(function)

    return declare


def install(session: nox.Session, *locks: str, payload: bool = False) -> None:
    """Install what the lock files name, and the registry from this checkout."""
    env = indexes.environment()
    for lock in locks:
        session.install("--quiet", "--requirements", f"requirements/{lock}.txt", env=env)
    if payload:
        session.install("--quiet", "--no-deps", "--editable", "registry", env=env)


def pytest(session: nox.Session, *paths: str, report: str = "pytest", within: str = "") -> None:
    """Run pytest on paths, leaving a report to be counted; within a command that makes room."""
    xml = Path("build", "reports", session.name, f"{report}.xml")
    command = [*within.split(), "python", "-m", "pytest", f"--junitxml={xml}", *paths]
    session.run(
        *command,
        *session.posargs,
        external=bool(within),
        interrupt_timeout=INTERRUPTED_SECONDS,
    )


def go_tools(session: nox.Session, tools: tuple[str, ...]) -> None:
    """Put tools written in Go on the session's PATH; each is built once."""
    session.run("tools/go-tools", *tools, external=True)
    session.env["PATH"] = os.pathsep.join([os.environ["PATH"], str(CACHE / "go" / "bin")])
    session.env["BUILDSET_TEST_CACHE"] = str(CACHE)


@tier()
def lint(session: nox.Session) -> None:
    """Check the style of every kind of file."""
    install(session, "lint")
    session.run("ruff", "format", "--check", "--diff", ".")
    session.run("ruff", "check", ".")
    session.run("yamllint", "--strict", ".")
    # Two that share a home remove each other's stand-ins for modules.
    home = Path(session.create_tmp(), "ansible").resolve()
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(link_collection()), "ANSIBLE_HOME": str(home)}
    session.run("ansible-lint", "--offline", env=environment)
    session.run("codespell")
    session.run("doc8", "--quiet", "README.rst", "CONTRIBUTING.rst", "docs", "registry/README.rst")
    session.run("validate-pyproject", "registry/pyproject.toml", "pyproject.toml")
    session.run("reuse", "--root", str(copy_files(session)), "lint", "--lines")
    session.run("antsibull-changelog", "lint")


def copy_files(session: nox.Session) -> Path:
    """Copy what git has or would take; reuse looks into .nox, too, which other tiers change."""
    target = Path(session.create_tmp(), "files")
    shutil.rmtree(target, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(command, text=True).split("\0"):
        if name and Path(name).is_file() and not Path(name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, target / name)
    return target


def link_collection() -> Path:
    """Make a place where Ansible finds this checkout as a collection."""
    namespace = Path("build", "checkout", "ansible_collections", "buildset").resolve()
    namespace.mkdir(parents=True, exist_ok=True)
    collection = namespace / "registry"
    # Tiers that run side by side make it at the same time.
    with suppress(FileExistsError):
        collection.symlink_to(Path.cwd())
    return namespace.parent.parent


@tier()
def types(session: nox.Session) -> None:
    """Check the types of the registry, of its tests and of the workshop's scripts."""
    install(session, "test", payload=True)
    session.run("mypy", PAYLOAD, CLIENTS, COMMAND, IMAGES)
    session.run("mypy", "noxfile.py", "tools", "tests", "bench")


@tier()
def architecture(session: nox.Session) -> None:
    """Check who imports whom, how large things are, and the workshop's own scripts."""
    install(session, "test", payload=True)
    session.run("lint-imports")
    pytest(session, "tests/architecture", "tests/workshop")


@tier()
def documentation(session: nox.Session) -> None:
    """Build the documentation, and check that it leaves nothing out."""
    install(session, "docs", payload=True)
    document_modules(session)
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "build/docs")
    install(session, "test")
    pytest(session, "tests/documentation")


def document_modules(session: nox.Session) -> None:
    """Write docs/modules from what the modules say of themselves; builders list no links."""
    pages = Path("docs", "modules")
    pages.mkdir(exist_ok=True)
    collections = Path("build", "documented").resolve()
    copy = collections / "ansible_collections" / "buildset" / "registry"
    session.run("python", "tools/stage.py", str(copy))
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(collections)}
    build = [
        *ANTSIBULL_DOCS,
        "collection",
        "--use-current",
        "--squash-hierarchy",
        "--fail-on-error",
    ]
    session.run(*build, "--dest-dir", str(pages), "buildset.registry", env=environment)


# It builds the collection from the work tree, where documentation writes pages.
@tier(after=("documentation",), tools=("registry", *BUILDKIT, "buildx"))
def roles(session: nox.Session) -> None:
    """Run the roles by each version of Ansible, at a desk and as Zuul does."""
    install(session, "test", payload=True)
    go_tools(session, TIERS["roles"].tools)
    install_zuul_registry(session)
    pytest(session, "tests/roles")


@tier(tools=STORES)
def tests(session: nox.Session) -> None:
    """Test the parts of the program."""
    prepare_program(session)
    pytest(session, "tests/unit", "tests/use")


@tier(tools=(*STORES, *QUADLET))
def api(session: nox.Session) -> None:
    """Test the program from outside: its API over real TLS, its pages, its command line."""
    prepare_program(session)
    go_tools(session, QUADLET)
    pytest(session, "tests/api", "tests/instance")


@tier(tools=(*STORES, *ACME, "conformance"))
def stores(session: nox.Session) -> None:
    """Test what waits for others: replicas over object stores, and certificates by ACME."""
    prepare_program(session)
    go_tools(session, (*ACME, "conformance"))
    pytest(session, "tests/stores", "tests/acme")


def prepare_program(session: nox.Session) -> None:
    """Install what the program is tested with, and the wheel that the role makes: that is tested,
    not the folder."""
    install(session, "test")
    install_wheel(session)
    prepare_stores(session)


def prepare_stores(session: nox.Session) -> None:
    """Install the servers of object stores, so that no test waits for it."""
    go_tools(session, STORES)
    session.run("python", "-c", "from tests.stores import programs; programs.fetch_all()")


def install_wheel(session: nox.Session) -> None:
    """Install the registry as the role installs it on a node."""
    wheels = Path(session.create_tmp(), "wheels")
    wheels.mkdir(parents=True, exist_ok=True)
    scripts = str(Path("roles", "install_buildset_registry", "files").resolve())
    build = f"import sys; sys.path.insert(0, {scripts!r}); import wheel; from pathlib import Path"
    build += f"; print(wheel.build(Path({str(wheels)!r})))"
    built = str(session.run("python", "-c", build, silent=True)).strip()
    # Compiled, as pip does it there.
    words = ["--quiet", "--no-deps", "--compile-bytecode", "--reinstall-package"]
    session.install(*words, "buildset-registry", built, env=indexes.environment())


@tier()
def collection(session: nox.Session) -> None:
    """Build the collection, and see whether Galaxy would take it."""
    install(session, "docs")
    session.run("python", "tools/stage.py")
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(Path("build", "collections").resolve())}
    lint = [
        *ANTSIBULL_DOCS,
        "lint-collection-docs",
        "--plugin-docs",
        "--validate-collection-refs=all",
    ]
    session.run(*lint, "build/collections/ansible_collections/buildset/registry", env=environment)


def built_collection(session: nox.Session) -> Path:
    """Return the archive that the tier collection has built."""
    found = list(Path("build", "dist").resolve().glob("*.tar.gz"))
    if len(found) != 1:
        session.error("build the collection first: .venv/bin/nox --session collection")
    return found[0]


@tier(after=("collection",))
def importer(session: nox.Session) -> None:
    """Import the collection as Galaxy does."""
    archive = built_collection(session)
    install(session, "importer")
    # It leaves a file where it runs.
    with session.chdir("build"):
        output = session.run("python", "-m", "galaxy_importer.main", str(archive), silent=True)
    session.log(output)
    if "WARNING" in str(output) or "completed successfully" not in str(output):
        session.error("the importer has something to say")


@tier(after=("collection",))
@nox.parametrize("ansible", ["2.16", "2.18", "newest"])
def sanity(session: nox.Session, ansible: str) -> None:
    """Let ansible-test check the collection, for a version of ansible-core."""
    built_collection(session)
    install(session, "venv" if ansible == "newest" else f"ansible-{ansible}")
    place = str(CACHE / "ansible-test" / ansible)
    session.run("python", "tools/sanity.py", place, env=indexes.pip_variables())


@tier()
def desk(session: nox.Session) -> None:
    """Run the registry at a desk in a company: from the checkout, and from its wheel."""
    install(session, "test")
    # Fetched here, since the enclosed machine has no network.
    fetch = "from tests.desk import wheelhouse; print(wheelhouse.fetch())"
    wheels = str(session.run("python", "-c", fetch, silent=True)).strip()
    session.env["DESK_WHEELS"] = wheels
    pytest(session, "tests/desk", within=ENCLOSED)


@tier(tools=("conformance", *STORES))
def conformance(session: nox.Session) -> None:
    """Run the OCI conformance suite, for two versions of the specification and every store."""
    install(session, "test", payload=True)
    go_tools(session, TIERS["conformance"].tools)
    prepare_stores(session)
    pytest(session, "tests/conformance")


@tier(tools=("registry", "crane"))
def interop(session: nox.Session) -> None:
    """Exchange data directories and images with distribution 2.8 and 3, and with zuul-registry."""
    install(session, "test", payload=True)
    go_tools(session, TIERS["interop"].tools)
    install_zuul_registry(session)
    pytest(session, "tests/interop")


@tier(tools=("crane", "regctl", "oras", "helm", "docker-compose", "minio", *BUILDKIT, *CONTAINERD))
def clients(session: nox.Session) -> None:
    """Push and pull with the clients that people have, each a real program."""
    install(session, "test", payload=True)
    go_tools(session, TIERS["clients"].tools)
    # Made here, since the enclosed machine has no network.
    make = "from tests.roles import harness; print(harness.ansible_with_collections())"
    made = str(session.run("python", "-c", make, silent=True)).strip()
    session.env["EXAMPLES_ANSIBLE"] = made
    prepare_stores(session)
    fetch = "from tests.roles import harness; print(harness.wheelhouse(), harness.podman_compose())"
    wheels, compose = str(session.run("python", "-c", fetch, silent=True)).split()
    session.env.update({"CONTAINER_WHEELS": wheels, "CONTAINER_COMPOSE": compose})
    pytest(session, "tests/clients", within=ENCLOSED)


@tier(alone=True)
def reliability(session: nox.Session) -> None:
    """Kill, fill, flood and mislead a registry, in small; ``soak`` does it in full."""
    install(session, "test", payload=True)
    pytest(session, "tests/reliability", "-rP")


@tier(tools=BENCHED, alone=True)
def smoke(session: nox.Session) -> None:
    """Run the benchmark in small: each measure yields a figure."""
    prepare_bench(session)
    pytest(session, "tests/bench")


def prepare_bench(session: nox.Session) -> None:
    """Install this registry as the role does, and the peers that no package of the system has."""
    install(session, "test")
    install_wheel(session)
    go_tools(session, BENCHED)
    install_zuul_registry(session)


def install_zuul_registry(session: nox.Session) -> None:
    """Install zuul-registry where its dependencies trouble nobody, and say where it is."""
    place = CACHE / "zuul-registry"
    if not (place / "bin" / "zuul-registry").exists():
        session.run("python", "-m", "venv", "--clear", str(place))
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        session.run(*pip, "--requirement", "requirements/zuul-registry.txt", external=True)
    session.env["BENCH_ZUUL_REGISTRY"] = str(place / "bin" / "zuul-registry")


@tier(tools=(*BUILDKIT, *CONTAINERD, "crictl"), alone=True)
def molecule(session: nox.Session) -> None:
    """Use the roles and real clients on several hosts, which end with this process."""
    install(session, "test")
    if not session.posargs:
        pytest(session, "tests/lab")
    go_tools(session, TIERS["molecule"].tools)
    wheels = "from tests.roles import harness; print(harness.wheelhouse(), harness.base_python())"
    folder, python = str(session.run("python", "-c", wheels, silent=True)).split()
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(link_collection()),
        "LAB_OWNER": "" if session.posargs else str(os.getpid()),
        "LAB_PYTHON": python,
        "LAB_WHEELS": folder,
        "PYTHONPATH": str(Path(CLIENTS).parent.resolve()),
    }
    session.run("molecule", *(session.posargs or ["test", "--all"]), env=environment)


@nox.session(python=PYTHON)
def bench(session: nox.Session) -> None:
    """Measure the registry side by side with others; what stands after ``--`` are its options."""
    prepare_bench(session)
    session.run("python", "-m", "bench", *session.posargs)


@nox.session(python=PYTHON)
def soak(session: nox.Session) -> None:
    """Run the tests whose figures take long, and print what they measured."""
    prepare_program(session)
    pytest(session, "tests/soak", "-rP")
