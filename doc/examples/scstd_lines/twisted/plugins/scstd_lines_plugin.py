from scstd.plugin import TargetDriver

lines = TargetDriver("lines", "Lines of hex on a TCP port", "scstd_lines")
