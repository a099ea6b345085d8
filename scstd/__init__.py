# SPDX-License-Identifier: MIT
"""
scstd: a SCSI target in user space, as a Twisted protocol framework with plugins.
"""

__version__ = "0.1.0"
