# SPDX-License-Identifier: MIT
"""
What target drivers have in common, for those of other packages too (doc/drivers.md):
the driver at work, and a session of a simple one.
"""
