from scstd.plugin import DeviceHandler

sqlite = DeviceHandler("sqlite", "A disk in a SQLite database", "scstd_sqlite")
