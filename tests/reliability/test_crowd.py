# SPDX-License-Identifier: Apache-2.0
"""Fifty clients that push the same blob, or the same tag, at once."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import repeat

from tests.reliability.server import LOGIN, MIB, Client, Server, digest_of, manifest

CLIENTS, ABORTED = 50, 10
SIZE = 2 * MIB


def together(*tasks: Callable[[], None]) -> None:
    """Run all tasks at once, and raise what one of them raised."""
    start, failures = threading.Barrier(len(tasks)), []

    def run(task: Callable[[], None]) -> None:
        try:
            start.wait(60)
            task()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def abort_push(client: Client, content: bytes, after: int) -> None:
    """Begin to push a blob, and hang up in the middle of it."""
    location = client.ask("POST", "/v2/app/blobs/uploads/").headers["Location"]
    connection = client.connection
    connection.putrequest("PUT", f"{location}?digest={digest_of(content)}")
    for name, value in {**LOGIN, "Content-Length": str(len(content))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(content[:after])
    client.close()


def test_one_blob_by_fifty_clients(server: Server) -> None:
    """Ten hang up in the middle; each of the others gets its 201, and the blob is whole."""
    content = os.urandom(SIZE)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    statuses: list[int] = []
    tasks: list[Callable[[], None]] = []

    def push(client: Client) -> None:
        statuses.append(client.push_blob("app", content).status)

    for number in range(CLIENTS):
        client = server.client()
        if number < ABORTED:
            tasks.append(partial(abort_push, client, content, chance.randrange(SIZE)))
        else:
            tasks.append(partial(push, client))
    chance.shuffle(tasks)
    together(*tasks)
    assert Counter(statuses) == {201: CLIENTS - ABORTED}
    pulled = server.client(pull=True).ask("GET", f"/v2/app/blobs/{digest_of(content)}")
    assert (pulled.status, pulled.content == content) == (200, True)


def test_one_tag_by_fifty_clients(server: Server) -> None:
    """Whoever reads the tag, meanwhile or afterwards, sees one of the images, and all of it."""
    images = {}
    for number in range(CLIENTS):
        config = b'{"number": %d}' % number
        assert server.client().push_blob("app", config).status == 201
        raw = manifest(config)
        images[digest_of(raw)] = raw
    first = next(iter(images.values()))
    assert server.client().push_manifest("app", "latest", first).status == 201
    statuses: list[int] = []
    done = threading.Event()

    def push(client: Client, raw: bytes) -> None:
        statuses.append(client.push_manifest("app", "latest", raw).status)

    def read(client: Client) -> None:
        while not done.is_set():
            check_is_one_of(client, images)

    readers = [threading.Thread(target=read, args=(server.client(pull=True),)) for _ in range(4)]
    for reader in readers:
        reader.start()
    clients = [server.client() for _ in images]
    together(*map(partial, repeat(push), clients, images.values()))
    done.set()
    for reader in readers:
        reader.join()
    assert statuses == [201] * CLIENTS
    reader_client = server.client(pull=True)
    check_is_one_of(reader_client, images)
    for digest, raw in images.items():
        assert reader_client.ask("GET", f"/v2/app/manifests/{digest}").content == raw


def check_is_one_of(client: Client, images: dict[str, bytes]) -> None:
    """Read the tag; its digest and its content belong to one image."""
    answer = client.ask("GET", "/v2/app/manifests/latest")
    assert answer.status == 200
    assert images[answer.headers["Docker-Content-Digest"]] == answer.content
