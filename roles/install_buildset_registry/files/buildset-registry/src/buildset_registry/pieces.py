# SPDX-License-Identifier: Apache-2.0
"""Content in the pieces in which it came, of which small ones are put together.

A client decides how small they are (RFC 9112, section 7.1): an object in Python takes some forty
bytes beside its content, so a body of chunks of two bytes would take thirty times its size.
"""

from __future__ import annotations

#: Bytes below which a piece is put together with others: it is copied by that.
_SMALL = 4 * 1024
#: Bytes after which what was put together is a piece.
_ENOUGH = 64 * 1024


class Pieces:
    """Bytes that are gathered; large pieces are kept as they are."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []
        self._tail = bytearray()

    def add(self, piece: bytes) -> None:
        """Add a piece at the end."""
        self.size += len(piece)
        if len(piece) >= _SMALL:
            self._seal()
            self._pieces.append(piece)
            return
        self._tail += piece
        if len(self._tail) >= _ENOUGH:
            self._seal()

    def all(self) -> tuple[bytes, ...]:
        """Return all of them; they stay as they are, whatever is added later."""
        return (*self._pieces, bytes(self._tail)) if self._tail else tuple(self._pieces)

    def whole(self) -> bytes:
        """Return the content; of what is one piece, no copy."""
        return b"".join(self.all())

    def _seal(self) -> None:
        """Make what was put together a piece."""
        if self._tail:
            self._pieces.append(bytes(self._tail))
            self._tail = bytearray()
