# SPDX-License-Identifier: Apache-2.0
"""The Python SDK for docker as a program: it pulls an image, prints its digest and forgets it."""

from __future__ import annotations

import sys

import docker


def main(name: str) -> None:
    """Pull by the daemon of the environment."""
    client = docker.from_env()
    image = client.images.pull(name)
    sys.stdout.write(image.attrs["RepoDigests"][0].partition("@")[2] + "\n")
    client.images.remove(name, force=True)


if __name__ == "__main__":
    main(sys.argv[1])
