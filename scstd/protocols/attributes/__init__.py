# SPDX-License-Identifier: MIT
"""
The attributes of the target driver iscsi and of its targets: the kinds of their values,
the rows, and what accounts have to agree on.
"""
