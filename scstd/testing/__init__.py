# SPDX-License-Identifier: MIT
"""
What other packages test theirs with: the contracts of the interfaces, as suites of
tests.
"""
