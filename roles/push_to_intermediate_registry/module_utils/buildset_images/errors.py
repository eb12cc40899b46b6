# SPDX-License-Identifier: Apache-2.0
"""Refusals of the roles that carry images: one line that says what is wrong and what to do."""

from __future__ import annotations

import re
from typing import Any


class ImagesError(Exception):
    """An image, an artifact or a registry that cannot be used as it is."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def shown(value: Any) -> str:
    """Return what a user gave as a message may have it: short, and without a password in a URL."""
    text = re.sub(r"(^|//)[^/@\s]*:[^/@\s]*@", r"\1", str(value))
    return repr(text if len(text) <= 160 else f"{text[:157]}...")


def unexpected(error: Exception) -> str:
    """Tell of an error of our own; its words may hold a password."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    name = trace.tb_frame.f_code.co_filename.rpartition("/")[2] if trace else "?"
    place = f"{type(error).__name__} at {name}:{trace.tb_lineno if trace else 0}"
    return f"this module has met something that it does not know ({place}); please report it"
