# SPDX-License-Identifier: MIT
"""
Configuration files of older programs, made into today's scst.conf.
"""
