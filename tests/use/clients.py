# SPDX-License-Identifier: Apache-2.0
"""The clients of the nodes, each by a command that pulls an image and prints the digest it got.

The command forgets the image again. What goes wrong is on standard error, and the digest is empty.
"""

from __future__ import annotations

from dataclasses import dataclass

STORAGE = (
    "%s pull -q {0} >/dev/null && podman image inspect --format '{{{{.Digest}}}}' {0}; "
    "%s rmi -f {0} >/dev/null"
)
PODMAN, BUILDAH = (STORAGE % (program, program) for program in ("podman", "buildah"))
DOCKER = (
    "docker pull -q {0} >/dev/null && docker image inspect --format "
    "'{{{{index .RepoDigests 0}}}}' {0} | cut -d@ -f2; docker rmi -f {0} >/dev/null"
)
SKOPEO = (
    "skopeo inspect --raw docker://{0} >/tmp/$(id -u).raw && "
    "echo sha256:$(sha256sum </tmp/$(id -u).raw | cut -c-64)"
)
#: ctr 1 asks the registry itself; ctr 2 has the daemon's transfer service do it, which reads the
#: folder that it is told, whatever config.toml says.
CTR = (
    "ctr images pull --hosts-dir /etc/containerd/certs.d --snapshotter native {0} >/dev/null && "
    "ctr images ls name=={0} | grep -o sha256:[0-9a-f]*; ctr images rm --sync {0} >/dev/null"
)
#: The Python SDK for docker, from the tests' own environment.
SDK = (
    "PYTHONPATH=$(echo /opt/checkout/.nox/molecule/lib/python3*/site-packages) "
    "python3 -B /opt/checkout/tests/use/sdk.py {0}"
)
#: The daemon goes by config.toml.
_CRICTL = "crictl --runtime-endpoint unix:///run/containerd/containerd.sock"
CRI = (
    f"{_CRICTL} pull {{0}} >/dev/null && {_CRICTL} inspecti -o go-template "
    "--template '{{{{index .status.repoDigests 0}}}}' {0} | cut -d@ -f2; "
    f"{_CRICTL} rmi {{0}} >/dev/null"
)
#: The layers are got for an output only; the digest is in what is said of the build.
BUILDKIT = (
    "mkdir -p /tmp/build && echo FROM {0} >/tmp/build/Dockerfile && "
    "buildctl build --frontend dockerfile.v0 --local context=/tmp/build "
    "--local dockerfile=/tmp/build --output type=tar --progress plain 2>&1 >/tmp/build.tar | "
    "tee /dev/stderr | grep -o {0}@sha256:[0-9a-f]* | head -n 1 | cut -d@ -f2; "
    "buildctl prune --all >/dev/null"
)


@dataclass(frozen=True)
class Client:
    """A command, the user who runs it, and the host."""

    command: str
    user: str = "root"
    host: str = "node"


#: By what they are called in the table.
CLIENTS = {
    "podman": Client(PODMAN),
    "buildah": Client(BUILDAH),
    "skopeo": Client(SKOPEO),
    "docker": Client(DOCKER),
    "docker SDK": Client(SDK),
    "containerd": Client(CTR),
    "podman, user": Client(PODMAN, user="labuser"),
    "buildah, user": Client(BUILDAH, user="labuser"),
    "skopeo, user": Client(SKOPEO, user="labuser"),
    "docker (current)": Client(DOCKER, host="current"),
    "docker SDK (current)": Client(SDK, host="current"),
    "containerd 2": Client(CTR, host="current"),
    "containerd 2 by CRI": Client(CRI, host="current"),
    "buildkit": Client(BUILDKIT, host="current"),
}
