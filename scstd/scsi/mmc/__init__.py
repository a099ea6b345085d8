# SPDX-License-Identifier: MIT
"""
Commands and pages of CD/DVD devices (MMC-6), grouped as the standard groups them.
"""
