# SPDX-License-Identifier: Apache-2.0
"""Measures this registry side by side with others: ``make bench``."""
