from scstd.plugin import Filter

tally = Filter("tally", "Counts what each session reads and writes", "scstd_tally")
