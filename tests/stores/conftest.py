# SPDX-License-Identifier: Apache-2.0
"""The object stores that these tests start."""

from tests.stores.fixtures import object_stores as object_stores
