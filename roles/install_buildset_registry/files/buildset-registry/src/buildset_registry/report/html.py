# SPDX-License-Identifier: Apache-2.0
"""HTML as values: every text is escaped where it becomes HTML, and nowhere else; pure.

``element`` is the only function that makes tags, and ``escaped`` the only one that lets a text in.
"""

from __future__ import annotations

import html
import re
import unicodedata

#: Elements without an end.
_VOID = frozenset({"meta", "link", "input", "br", "path", "rect", "line", "circle"})
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")
#: Kinds of characters that show nothing, or turn the text around them: controls, formats, halves.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


def visible(text: str) -> str:
    """Return a text with what cannot be seen, or turns others around, as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSEEN else char
        for char in text
    )


def escaped(text: object) -> Markup:
    """Return a text for any place in a page, between tags or in a quoted attribute."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(visible(str(text)), quote=True))


def joined(*parts: object) -> Markup:
    """Return parts one after the other."""
    return Markup("".join(map(escaped, parts)))


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element.

    In the name of an attribute, ``_`` stands for ``-``, and at its end for nothing (``class_``).
    One that is None or False is left out; one that is True has no value.
    """
    words = [tag]
    for key, value in attributes.items():
        attribute = key.removesuffix("_").replace("_", "-")
        if not _NAME.fullmatch(attribute):
            raise ValueError(f"not an attribute: {attribute!r}")
        if value is True:
            words.append(attribute)
        elif value is not None and value is not False:
            words.append(f'{attribute}="{escaped(value)}"')
    start = f"<{' '.join(words)}>"
    return Markup(start) if tag in _VOID else Markup(f"{start}{joined(*children)}</{tag}>")


def raw(name: str, content: str) -> Markup:
    """Return a ``script`` or ``style`` of this program's own, whose content is not escaped."""
    if "</" in content:
        raise ValueError("the content would end the element")
    return Markup(f"<{name}>{content}</{name}>")
