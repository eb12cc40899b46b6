# SPDX-License-Identifier: Apache-2.0
"""What the container roles of zuul-jobs do, as tasks written after them.

``build-container-image``, ``build-docker-image`` and ``promote-container-image`` by the commands
that they run; ``ensure-docker``, ``ensure-podman`` and ``use-buildset-registry`` by a program that
writes what they write.
"""

from __future__ import annotations

from typing import Any

from tests.roles.zuul_jobs_node import ALIAS

Task = dict[str, Any]

ADDRESS = f"{ALIAS}:{{{{ buildset_registry.port }}}}"
HOME = "{{ ansible_user_dir }}"
BUILDER = "buildx_buildkit_{{ inventory_hostname }}"
#: The table of hosts of a builder, which docker mounts there.
HOSTS = f"""set -e
docker cp {BUILDER}:/etc/hosts zj-hosts
grep -q '{ALIAS}$' zj-hosts || echo '{{{{ buildset_registry.host }}}} {ALIAS}' >>zj-hosts
docker exec {BUILDER} umount /etc/hosts
docker cp zj-hosts {BUILDER}:/etc/new-hosts
docker exec {BUILDER} cp /etc/new-hosts /etc/hosts
"""


def command(*words: str, folder: str = HOME, **more: Any) -> Task:
    """Run a command, by Zuul's own module: it streams what is said."""
    given = {"argv": list(words), "chdir": folder}
    return {"command": given, "changed_when": False, **more}


def configure() -> Task:
    """Do what ``ensure-docker``, ``ensure-podman`` and ``use-buildset-registry`` do."""
    program = ["{{ ansible_python_interpreter }}", "/opt/nodes/zuul_jobs_node.py"]
    task = command(*program, "{{ ansible_user }}", HOME, become=True, register="zj_node")
    task["command"]["stdin"] = "{{ buildset_registry | to_json }}"
    return {**task, "changed_when": "zj_node.stdout | length > 0", "no_log": True}


def alias() -> Task:
    """Have a name for an address, which docker does not take where it is IPv6."""
    line = f"{{{{ buildset_registry.host }}}}\t{ALIAS}"
    edit = {"path": "/etc/hosts", "line": line, "regexp": f"^{line}$", "insertafter": "EOF"}
    return {"ansible.builtin.lineinfile": edit, "become": True}


def build_container_image(program: str, repository: str, folder: str) -> list[Task]:
    """Build an image of Docker Hub by podman or docker, and push it by the alias.

    What was pushed is written down beside it, which zuul-jobs does not do.
    """
    pushed, named = f"{ADDRESS}/{repository}:latest", f"docker.io/{repository}:latest"
    cgroups = ["--cgroup-manager", "cgroupfs"] if program == "podman" else []
    push = {
        "podman": ["podman", "push", "--digestfile", "podman.digest", pushed],
        "docker": ["sh", "-c", f"docker push {pushed} >docker.digest"],
    }
    return [
        command(program, *cgroups, "build", ".", "--tag", named, folder=folder),
        command(program, "tag", named, pushed),
        command(*push[program], folder=folder),
    ]


def set_up_buildx() -> list[Task]:
    """Make a builder with the node's file, its certificate and its table of hosts."""
    options = ["--driver-opt", "network=host", "--config", "/etc/buildkit/buildkitd.toml"]
    create = ["create", "--name", "mybuilder", "--node", "{{ inventory_hostname }}", *options]
    trusted = "/usr/local/share/ca-certificates"
    write = {"content": "{{ buildset_registry.cert }}", "dest": f"{HOME}/zj-cert", "mode": "0600"}
    return [
        command("docker", "buildx", *create),
        command("docker", "buildx", "use", "mybuilder"),
        command("docker", "buildx", "inspect", "--bootstrap"),
        {"ansible.builtin.copy": write},
        command("docker", "cp", "zj-cert", f"{BUILDER}:{trusted}"),
        command("docker", "exec", BUILDER, "update-ca-certificates"),
        command("sh", "-c", HOSTS),
    ]


def build_docker_image(repository: str, folder: str) -> list[Task]:
    """Build an image by buildx, which pushes it itself, by the alias; its digest is kept."""
    build = command(
        *("docker", "buildx", "build", ".", "-f", "Dockerfile", "--network=host"),
        *("--tag", f"{ADDRESS}/{repository}:latest", "--platform=linux/amd64", "--push"),
        *("--metadata-file", "buildx.metadata"),
        folder=folder,
    )
    keep = "grep -o 'containerimage.digest.*' buildx.metadata >buildx.digest"
    return [*set_up_buildx(), build, command("sh", "-c", keep, folder=folder)]


def promote_container_image(repository: str) -> Task:
    """Copy the tag of a change to the tag that everybody pulls; quay.io's own API deletes tags."""
    change = f"docker://{repository}:change_1_latest"
    return command("skopeo", "copy", "--all", change, f"docker://{repository}:latest")
