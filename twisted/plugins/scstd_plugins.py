# SPDX-License-Identifier: MIT
"""
What scstd brings to ``twistd`` and to itself: one line each, and nothing imported but
what declares them.
"""

from twisted.application.service import ServiceMaker

from scstd.plugin import DeviceHandler, Filter, ServerEndpoint, TargetDriver

scst_iscsi = ServiceMaker(
    "scst-iscsi", "scstd.tap", "An iSCSI target: SCST in user space", "scst-iscsi"
)

tls = ServerEndpoint("scst-tls", "scstd.protocols.tls")

iscsi = TargetDriver(
    "iscsi", "iSCSI over TCP (RFC 7143)", "scstd.protocols.driver", 3260, default=True
)

vdisk_fileio = DeviceHandler(
    "vdisk_fileio", "A disk in a file or on a block device", "scstd.handlers.fileio"
)
vdisk_blockio = DeviceHandler(
    "vdisk_blockio",
    "SCST's name for vdisk_fileio on a block device",
    "scstd.handlers.blockio",
)
vdisk_nullio = DeviceHandler(
    "vdisk_nullio", "A disk that forgets: for measuring", "scstd.handlers.nullio"
)
vcdrom = DeviceHandler(
    "vcdrom",
    "A CD/DVD drive with an ISO image in it, or none",
    "scstd.handlers.cdrom",
    device_type=5,
)
memory = DeviceHandler(
    "memory", "A disk in memory, gone at the end", "scstd.handlers.memory"
)

delay = Filter("delay", "Makes a store slow", "scstd.filters.delay")
error = Filter("error", "Makes a store fail", "scstd.filters.error")
