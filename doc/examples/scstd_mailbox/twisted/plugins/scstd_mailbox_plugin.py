from scstd.plugin import DeviceHandler

mailbox = DeviceHandler("mailbox", "A processor device", "scstd_mailbox", 3)
