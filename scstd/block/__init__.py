# SPDX-License-Identifier: MIT
"""
Stores as volumes: what is below SCSI, and knows no command.
"""
