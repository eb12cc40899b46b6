# SPDX-License-Identifier: Apache-2.0
"""The comparison of what clients got with what the ledger says of it finds what differs."""

from __future__ import annotations

from tests.use.recorded import ADDRESSES, Cell, compare

ONE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NAME = "quay.io/org/app"


def cell(client: str, digest: str = ONE, host: str = "node") -> Cell:
    return Cell(host, client, NAME, "v1", digest)


def row(digest: str = ONE, host: str = "node", reference: str = "v1") -> dict[str, str]:
    client = {"client": ADDRESSES[host], "agent": "docker/1"}
    return {**client, "image": NAME, "reference": reference, "digest": digest}


def test_a_cell_for_each_row_is_right() -> None:
    """Rows of other images are none of the table's, and a cell without an image has no row."""
    cells = [cell("podman"), cell("buildah"), cell("docker", host="current"), cell("skopeo", "")]
    rows = [row(), row(), row(host="current"), row("sha256:" + "c" * 64)]
    assert compare(cells, {"pulls": rows}) == []


def test_a_cell_without_a_row_and_a_row_without_a_cell_are_told() -> None:
    """A tag in the wrong row, one row for two, two for one, and a digest that is in no cell's."""
    assert "2 cells, 1 rows" in compare([cell("a"), cell("b")], {"pulls": [row()]})[0]
    assert "1 cells, 2 rows" in compare([cell("a")], {"pulls": [row(), row()]})[0]
    alone = compare([cell("a"), cell("b", OTHER)], {"pulls": [row(), row(reference=ONE)]})
    assert [line.partition(": ")[2][:15] for line in alone] == [
        "0 cells, 1 rows",
        "1 cells, 0 rows",
    ]


def test_two_clients_of_one_daemon_have_a_row_each() -> None:
    """Neither is in the other one's."""
    cells = [cell("containerd 2"), cell("containerd 2 by CRI")]
    assert compare(cells, {"pulls": [row(), row()]}) == []
    assert "2 cells, 1 rows" in compare(cells, {"pulls": [row()]})[0]
    assert "2 cells, 3 rows" in compare(cells, {"pulls": [row(), row(), row()]})[0]
