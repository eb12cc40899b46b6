# SPDX-License-Identifier: Apache-2.0
"""The store in a folder, in distribution's layout."""
