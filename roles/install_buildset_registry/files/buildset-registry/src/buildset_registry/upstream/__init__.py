# SPDX-License-Identifier: Apache-2.0
"""Other registries, as a client: which one has a repository, how to log in there, how to fetch."""
