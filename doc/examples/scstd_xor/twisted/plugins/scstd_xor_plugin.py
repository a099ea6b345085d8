from scstd.plugin import Filter

xor = Filter("xor", "Bytes XORed with a key", "scstd_xor")
