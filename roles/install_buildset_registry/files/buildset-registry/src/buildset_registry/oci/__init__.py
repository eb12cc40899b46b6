# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the OCI specifications: pure, synchronous, no imports from above."""
