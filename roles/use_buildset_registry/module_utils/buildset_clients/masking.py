# SPDX-License-Identifier: Apache-2.0
"""Masks over values that nobody but their owners may see, in text of any format.

A file that is shown in a difference holds other people's settings as well. It may be JSON, TOML,
YAML, an environment or none of them, or broken, so it is not parsed: a value is masked by the name
before it, all that is below such a name too, and so are logins that can be told by their own form.
Too much is masked rather than too little.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MASK = "***"
_WORDS = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|token|secret|credential|auth|cookie|bearer|jwt|"
    r"(?:api|access|private|account|shared|signing|encryption)[-_. ]?key)"
)
#: A name, in quotes or not, and what comes between it and its value.
_NAME = re.compile(rf"[\w.-]*{_WORDS}[\w.-]*[\"']?\]?[ \t]*(=>|[:=])[ \t]*", re.IGNORECASE)
#: An option of a command line whose value is the next word, or the next string of a list.
_OPTION = re.compile(
    rf"(?<![\w-])--?[\w-]*{_WORDS}[\w-]*(?:[\"'],?\s*|[ \t]+)(?=[^\s:-])", re.IGNORECASE
)
_HEADER = re.compile(r"^[ \t]*\[\[?([^\n=]*)\]\]?[ \t]*(?:#.*)?$", re.MULTILINE)
_WORD = re.compile(_WORDS, re.IGNORECASE)
_ANY_NAME = re.compile(r"=[ \t]*")
_QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
#: What a line of a value has before its own word: the item of a list, a name of YAML.
_LEADING = re.compile(r"^[ \t]*(?:-[ \t]+)?(?:[\w.-]+:[ \t]+)?(?:[&!]\S*[ \t]+)*")
#: What YAML may have before a value: an anchor or a tag.
_BEFORE = re.compile(r"(?:[&!]\S*[ \t]+)*")
_BLOCK = re.compile(r"[|>][-+\d]*[ \t]*(?:#.*)?$", re.MULTILINE)
_STRINGS = (
    re.compile(r'"""(.*?)(?:"""|\Z)', re.DOTALL),
    re.compile(r"'''(.*?)(?:'''|\Z)", re.DOTALL),
    re.compile(r'"((?:\\.|[^"\\])*)(?:"|\Z)', re.DOTALL),
    re.compile(r"'((?:''|[^'])*)(?:'|\Z)", re.DOTALL),
)
#: Logins by their own form: of an URL, of a header, and tokens that say what they are.
_FORMS = (
    (re.compile(r"(://)[^\s\"'/?#@]*:[^\s\"']*@(?!sha\d+:)"), rf"\1{MASK}@"),
    (re.compile(r"(://)[^\s\"'/?#]+@"), rf"\1{MASK}@"),
    (re.compile(r"\b(Basic|Bearer)[ \t]+[\w+/=.~-]{4,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), MASK),
    (re.compile(r"\b(?:gh[a-z]_|github_pat_|glpat-|dckr_pat_|xox[a-z]-|AKIA)[\w-]{8,}"), MASK),
)
#: A shorter value is not looked for elsewhere: it would be found in other words.
_SHORTEST = 6


class _Value(NamedTuple):
    """A place in a text that holds a value."""

    start: int
    end: int


def mask(text: str) -> str:
    """Write a text with its secrets masked, wherever they stand in it."""
    places = _values(text)
    parts, begin = [], 0
    for start, end in places:
        if start >= begin:
            parts += [text[begin:start], MASK]
            begin = end
    masked = "".join([*parts, text[begin:]])
    for word in sorted(_words(text, places), key=len, reverse=True):
        masked = masked.replace(word, MASK)
    return mask_logins(masked)


def mask_logins(text: str) -> str:
    """Mask what can be told by its own form, as in the words of an error."""
    for form, instead in _FORMS:
        text = form.sub(instead, text)
    return text


def secrets(text: str) -> set[str]:
    """Return the secrets of a text, less those that are too short to be looked for."""
    return _words(text, _values(text))


def _words(text: str, places: list[_Value]) -> set[str]:
    """Tell the words of values that are looked for elsewhere."""
    words = set()
    for start, end in places:
        value = text[start:end]
        words |= {_LEADING.sub("", line).strip(" \t\"',") for line in value.splitlines()}
        words |= {quoted[1:-1] for quoted in _QUOTED.findall(value)}
    return {word for word in words if len(word) >= _SHORTEST}


def _values(text: str) -> list[_Value]:
    """Find the values below names that tell of a secret, in their order."""
    found = [_value(text, one.start(), one.end()) for one in _NAME.finditer(text)]
    found += [_value(text, one.start(), one.end(), word=True) for one in _OPTION.finditer(text)]
    headers = list(_HEADER.finditer(text))
    for header, following in zip(headers, [*headers[1:], None]):
        if _WORD.search(_QUOTED.sub("", header.group(1))):
            end = following.start() if following else len(text)
            for one in _ANY_NAME.finditer(text, header.end(), end):
                found.append(_value(text, one.start(), one.end()))
    return sorted(one for one in found if one.end > one.start)


def _value(text: str, name: int, start: int, word: bool = False) -> _Value:
    """Find the value that begins at a place, and may have several lines."""
    start = _BEFORE.match(text, start).end()  # type: ignore[union-attr]  # it takes nothing too
    line = text.find("\n", start)
    line = len(text) if line < 0 else line
    if not text[start:line].strip() and text[line:].lstrip()[:1] in ("{", "[", '"'):
        start = len(text) - len(text[line:].lstrip())  # JSON has it on another line
    for form in _STRINGS:
        string = form.match(text, start)
        if string:
            return _Value(*string.span(1))
    if text[start : start + 1] in ("[", "{"):
        return _Value(start + 1, _closing(text, start))
    if word:
        end = re.compile(r"[^\s,;]*").match(text, start)
        return _Value(start, end.end() if end else line)
    quote = _around(text, name)
    if quote and quote not in text[name:start]:
        return _Value(start, min(max(text.find(quote, start, line), start), line))
    return _Value(start, _indented(text, name, line))


def _around(text: str, name: int) -> str:
    """Tell the quote of the string that a name is in, as in a list of variables."""
    before = text[text.rfind("\n", 0, name) + 1 : name]
    return next((quote for quote in "\"'" if before.count(quote) % 2), "")


def _closing(text: str, start: int) -> int:
    """Find the bracket that closes the one at a place, or the end."""
    depth, place = 0, start
    while place < len(text):
        if text[place] in "\"'":
            string = next(filter(None, (form.match(text, place) for form in _STRINGS)))
            place = max(string.end(), place + 1)
            continue
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
        place += 1
    return len(text)


def _indented(text: str, name: int, line: int) -> int:
    """Find the end of the lines below a name, which are those that YAML has further in."""
    begin = text.rfind("\n", 0, name) + 1
    own = len(text[begin:]) - len(text[begin:].lstrip(" -"))
    end = line
    for following in text[line + 1 :].splitlines(keepends=True):
        inner = len(following) - len(following.lstrip(" "))
        if following.strip() and inner <= own and not _is_item(following, inner, own):
            break
        end += len(following)
    return min(end, len(text))


def _is_item(line: str, inner: int, own: int) -> bool:
    """Tell whether a line is an item of a list that YAML has as far in as its name."""
    return inner == own and line.lstrip().startswith("- ")
