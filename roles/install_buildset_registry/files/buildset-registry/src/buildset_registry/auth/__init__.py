# SPDX-License-Identifier: Apache-2.0
"""Authentication and authorization: users, tokens, and one pure policy."""
