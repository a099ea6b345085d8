# SPDX-License-Identifier: MIT
"""
Block commands (SBC-4): what a direct access block device does.
"""
