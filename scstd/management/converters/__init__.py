# SPDX-License-Identifier: MIT
"""
Configuration files of the first iSCSI-SCST, made into today's scst.conf.

`legacy`              both of them, and scst.conf in its old form
`iscsi_scstd_conf`    iscsi-scstd.conf
`converted`           what they are made into
"""
