# SPDX-License-Identifier: Apache-2.0
"""What the long tests share."""

from typing import Any

import pytest
import trustme


@pytest.fixture(scope="session")
def authority() -> Any:
    """A certificate authority of the tests' own."""
    return trustme.CA()
