# SPDX-License-Identifier: Apache-2.0
"""Real ansible-playbook processes over the repository's roles, in folders of the tests' own."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import itertools
import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = REPOSITORY / "roles"
CACHE = Path(
    os.environ.get("BUILDSET_TEST_CACHE", Path.home() / ".cache" / "buildset-registry-tests")
)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What Zuul runs today, and the newest one that the machine's Python can run.
ANSIBLE = {"2.16": "2.16.19", "2.18": "2.18.19", "newest": "2.19.14"}
ANSIBLE_ON_PYTHON_3_12 = "2.21.5"
_USERS = itertools.count(1)
#: Numbers of users, far from those that a distribution gives and from subordinate ones.
_LOWEST_UID, _UIDS = 20_000, 30_000
PASSWORD_OF_UPSTREAM = "not-to-be-seen-anywhere"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time fill a place in the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(name: str) -> Path:
    """Tell a folder of the cache; what is in it is complete when its marker is there."""
    return CACHE / name


def base_python() -> Path:
    """Find a Python that other users of the machine can run as well."""
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        ask = [candidate, "-c", "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))"]
        if Path(candidate).exists() and subprocess.run(ask, capture_output=True).returncode == 0:
            return Path(candidate)
    return Path(sys.base_prefix, "bin", "python3")


def clean_path() -> str:
    """Leave out the stand-ins of version managers, which are found but do not run."""
    folder = str(base_python().parent)
    return SYSTEM_PATH if folder in SYSTEM_PATH.split(":") else f"{folder}:{SYSTEM_PATH}"


def environment_with(*requirements: str) -> Path:
    """Make a virtual environment once and keep it in the cache."""
    named = "\n".join([str(base_python()), *requirements])
    folder = cached("venv-" + hashlib.sha256(named.encode()).hexdigest()[:12])
    with locked(folder.name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([base_python(), "-m", "venv", folder], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, *requirements], check=True)
            (folder / "complete").touch()
    return folder


def ansible_environment(version: str) -> Path:
    """Make the environment of one version of ansible-core, with what Zuul's plugins import."""
    number = ANSIBLE[version]
    ask = [str(base_python()), "-c", "import sys; sys.exit(sys.version_info < (3, 12))"]
    if version == "newest" and subprocess.run(ask).returncode == 0:
        number = ANSIBLE_ON_PYTHON_3_12
    return environment_with(
        f"ansible-core=={number}", "voluptuous==0.15.2", "google-re2==1.1.20251105"
    )


def ansible_with_collections() -> Path:
    """Make the environment of Ansible as Zuul has it: the whole package, with all collections."""
    return environment_with("ansible==11.12.0", "requests==2.32.5")


def zuul_plugins() -> Path:
    """Fetch Zuul's own plugins: its package, without what it depends on."""
    folder = cached("zuul-14.3.0")
    pip = environment_with("pip==25.3") / "bin" / "pip"
    with locked(folder.name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            options = ["--quiet", "--no-deps", "--target", str(folder)]
            subprocess.run([pip, "install", *options, "zuul==14.3.0"], check=True)
            (folder / "complete").touch()
    return folder


def podman_compose() -> Path:
    """Fetch podman-compose and what it depends on, as a folder for PYTHONPATH."""
    folder = cached("podman-compose-1.6.0")
    pip = environment_with("pip==25.3") / "bin" / "pip"
    with locked(folder.name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            options = ["--quiet", "--target", str(folder)]
            subprocess.run([pip, "install", *options, "podman-compose==1.6.0"], check=True)
            (folder / "complete").touch()
    return folder


def wheelhouse() -> Path:
    """Fetch the wheels that the program depends on."""
    project = (
        ROLES / "install_buildset_registry/files/buildset-registry/pyproject.toml"
    ).read_text()
    dependencies = yaml.safe_load(
        project.partition("\ndependencies = ")[2].partition("]\n")[0] + "]"
    )
    named = json.dumps([str(base_python()), *dependencies])
    folder = cached("wheelhouse-" + hashlib.sha256(named.encode()).hexdigest()[:12])
    pip = environment_with("pip==25.3") / "bin" / "pip"
    with locked(folder.name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            options = ["--quiet", "--only-binary", ":all:", "--dest", str(folder)]
            subprocess.run([pip, "download", *options, *dependencies], check=True)
            (folder / "complete").touch()
    return folder


@dataclass
class Run:
    """What an ansible-playbook process came to."""

    code: int
    output: str
    facts: dict[str, Any] | None

    @property
    def recap(self) -> dict[str, int]:
        """Tell the counts of the last line."""
        last = [line for line in self.output.splitlines() if "unreachable=" in line][-1]
        pairs = [word.split("=") for word in last.split() if "=" in word]
        return {name: int(count) for name, count in pairs}

    @property
    def message(self) -> str:
        """Tell the message of the task that failed."""
        failures = [line for line in self.output.splitlines() if line.startswith("fatal: ")]
        return str(json.loads(failures[-1].partition("=> ")[2])["msg"])


@dataclass
class Desk:
    """A place to run playbooks from, as a user of the machine."""

    folder: Path
    environment: Path
    user: str | None = None
    roles: Path = ROLES
    variables: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    #: A command that runs others elsewhere, such as in another network.
    within: tuple[str, ...] = ()
    #: How long a program may take.
    seconds: int = 110

    @property
    def home(self) -> Path:
        """Tell the home folder of the processes."""
        return self.folder / "home"

    def environ(self) -> dict[str, str]:
        """Set the environment of a process."""
        return {
            "HOME": str(self.home),
            "PATH": clean_path(),
            "LANG": "C.UTF-8",
            "ANSIBLE_ROLES_PATH": str(self.roles),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
            **self.settings,
        }

    def command(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program as the desk's user."""
        words = [*self.within, *map(str, argv)]
        if self.user:
            program = str(shutil.which("setpriv", path=SYSTEM_PATH))
            words = [program, "--reuid", self.user, "--regid", self.user, "--init-groups", *words]
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.seconds,
        )

    def playbook(self, playbook: str | Path, *options: str, **variables: Any) -> Run:
        """Run a playbook by its path, or by its name in a collection."""
        given = self.folder / "variables.json"
        given.write_text(json.dumps({**self.variables, **variables}))
        python = self.environment / "bin" / "python"
        inventory = [] if "-i" in options else ["-i", "localhost,", "-c", "local"]
        words = [*inventory, "-e", f"@{given}", *options, str(playbook)]
        done = self.command(python, "-m", "ansible", "playbook", *words)
        written = self.folder / "facts.json"
        facts = json.loads(written.read_text()) if written.exists() else None
        written.unlink(missing_ok=True)
        return Run(done.returncode, done.stdout, facts)

    def write(self, name: str, plays: list[dict[str, Any]]) -> Path:
        """Write a playbook."""
        path = self.folder / name
        path.write_text(yaml.safe_dump(plays, sort_keys=False))
        return path

    def role(self, role: str, *options: str, **variables: Any) -> Run:
        """Run one role, and read the facts that it set."""
        keep = {
            "name": "Keep the facts for the test",
            "ansible.builtin.copy": {
                "content": "{{ buildset_registry | to_json }}",
                "dest": str(self.folder / "facts.json"),
                "mode": "0600",
            },
            "when": "buildset_registry | default(none) is mapping",
            "no_log": True,
            "changed_when": False,
            "check_mode": False,
        }
        play = {"hosts": "all", "gather_facts": False, "roles": [role], "post_tasks": [keep]}
        return self.playbook(self.write("role.yml", [play]), *options, **variables)


@contextmanager
def ordinary_user() -> Iterator[str]:
    """Make a user who may do nothing special, and remove it again.

    Its number is drawn: another tier may make users in a machine of its own meanwhile, and a number
    that both have is one user to the kernel.
    """
    name = f"buildset-test-{os.getpid()}-{next(_USERS)}"
    number = str(_LOWEST_UID + secrets.randbelow(_UIDS))
    subprocess.run(
        ["useradd", "--no-create-home", "--user-group", "--uid", number, name], check=True
    )
    try:
        yield name
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)


def get(facts: Mapping[str, Any], which: str = "", path: str = "/v2/", login: bool = False) -> int:
    """Ask an endpoint as a client would, verifying TLS by the facts' certificate only."""
    host, port = facts[f"{which}host"], facts[f"{which}port"]
    context = ssl.create_default_context(cadata=facts["cert"])
    connection = http.client.HTTPSConnection(host, port, timeout=60, context=context)
    pair = f"{facts['username']}:{facts['password']}"
    headers = {"Authorization": "Basic " + b64encode(pair.encode()).decode()} if login else {}
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()
