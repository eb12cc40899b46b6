# SPDX-License-Identifier: Apache-2.0
"""The store in an object service: everything but what one service says differently from another.

That is a *dialect* (``dialect``): the package of a service has one, and opens this store with it.
"""
