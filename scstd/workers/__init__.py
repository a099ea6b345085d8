# SPDX-License-Identifier: MIT
"""
More than one process: a front that has the listeners and the tree, and workers that
have the devices and the sessions (``--workers N``).
"""
