# SPDX-License-Identifier: Apache-2.0
"""The lock file: canonical, and read as it was written."""

from __future__ import annotations

import json
import random
import time

import pytest
from buildset_registry.errors import RegistryError
from buildset_registry.image_lock.document import ImageLock, LockedImage, PublicName
from buildset_registry.oci.digest import Digest

NAMES = {
    "python:3": "docker.io/library/python:3",
    "docker.io/org/app:1": "docker.io/org/app:1",
    "index.docker.io/python:3": "docker.io/library/python:3",
    "quay.io/org/app:v1.0_rc-1": "quay.io/org/app:v1.0_rc-1",
    "Registry.example.com:5000/app:1": "registry.example.com:5000/app:1",
    "[2001:db8::1]:5000/org/app:1": "[2001:db8::1]:5000/org/app:1",
    "localhost/app:latest": "localhost/app:latest",
}
NO_NAMES = [
    *(
        "",
        ":1",
        "python",
        "python:",
        "python:3@sha256:1",
        "quay.io/:1",
        "quay.io/app:a b",
        "a//b:1",
    ),
    *("https://quay.io/org/app:1", "<script>:1", "app\u202e:1", f"app:{'t' * 129}", "x" * 4096),
]


@pytest.mark.parametrize("text", NAMES)
def test_a_name_has_one_public_form(text: str) -> None:
    """However it is shortened; the public form is its own."""
    name = PublicName.parse(text)
    assert str(name) == NAMES[text]
    assert PublicName.parse(NAMES[text]) == name


@pytest.mark.parametrize("text", NO_NAMES)
def test_what_is_no_name_is_refused(text: str) -> None:
    """With a reason, never with another exception."""
    with pytest.raises(RegistryError):
        PublicName.parse(text)


def large(number: int) -> ImageLock:
    """Return a lock of many images, in no order."""
    names = [PublicName.parse(f"quay.io/org/app{index}:v{index}") for index in range(number)]
    random.Random(7).shuffle(names)  # noqa: S311
    images = {
        name: LockedImage(
            Digest.of(str(name).encode()), "text/plain", ("linux/amd64",), "quay.io", "2026-01-01"
        )
        for name in names
    }
    return ImageLock(images)


def test_ten_thousand_images_are_one_text_whatever_their_order() -> None:
    """Sorted, read back as they were, and in no time."""
    begin = time.process_time()
    lock = large(10_000)
    text = lock.dump()
    again = ImageLock.parse(text, lock.source)
    assert time.process_time() - begin < 10
    assert again == lock
    assert again.dump() == text
    listed = list(json.loads(text)["images"])
    assert listed == sorted(listed)
    assert text.isascii()
