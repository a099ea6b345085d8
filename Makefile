# `make run` serves a disk, `make test` proves that it works; `make help` has the rest.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORTAL ?= 127.0.0.1:3260
TARGET ?= iqn.2026-11.org.scstd:demo
SEED ?= 1
SOURCES := scstd twisted/plugins bench doc/examples setup.py

.PHONY: help run test lint format clients bench many conformance soak storm mutants linux-cdrom \
	linux-initiator linux-service docs clean

help:
	@echo "make run          serve a 1 GiB demo disk on $(PORTAL)"
	@echo "make test         lint, types, and every test, with real initiators"
	@echo "make lint         ruff and mypy --strict"
	@echo "make bench        measure against tgtd, side by side"
	@echo "make many         measure 1,000 sessions (logins, memory), and 1,000 LUNs (start, reload)"
	@echo "make conformance  run libiscsi's test suite against us"
	@echo "make linux-cdrom  have Linux mount and change discs of a vcdrom, under QEMU"
	@echo "make linux-initiator  have Linux's open-iscsi use a target, under QEMU"
	@echo "make linux-service  have systemd run the unit files of contrib/systemd, under QEMU"
	@echo "make soak         a million blocks over a bad link; logins; pings; about 5 minutes"
	@echo "make storm        everything changed at once under initiators; about 5 minutes"
	@echo "make mutants      which of fifty faults (SEED=1) no test notices: as long as make test, then minutes"
	@echo "make docs         write the generated pages of doc/ again"

# Plugins live in twisted/plugins: only this mode of editable installs shows them.
$(STAMP): setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check \
		--config-settings editable_mode=compat --editable '.[dev]'
	touch $@

run: $(STAMP)
	@echo "A 1 GiB disk, kept in demo.img. Try, in another terminal:"
	@echo "    iscsi-inq iscsi://$(PORTAL)/$(TARGET)/0"
	@echo "    qemu-img info iscsi://$(PORTAL)/$(TARGET)/0"
	@echo "(packages libiscsi-bin and qemu-block-extra), and"
	@echo "    $(BIN)/scstadmin -socket state/control -list_sessions"
	@echo "Ctrl-C stops it."
	@exec $(BIN)/twistd --nodaemon --pidfile= scst-iscsi --listen $(PORTAL) \
		--target $(TARGET) --state-dir state \
		--device demo=vdisk_fileio:filename=demo.img:size=1G

# The initiators that the tests use; without root or apt they must be there already.
clients:
	@$(PYTHON) scstd/test/clients.py --install

test: $(STAMP) clients lint
	$(BIN)/python -m twisted.trial --temp-directory _trial_temp scstd

lint: $(STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(STAMP) clients
	$(BIN)/python bench/compare.py --keep

many: $(STAMP)
	$(BIN)/python bench/many.py

# What scstd.test has is in a checkout only: it is not installed.
conformance: $(STAMP) clients
	$(BIN)/python -m scstd.test.suite

# The Linux is downloaded with apt into build/linux, and not installed.
linux-cdrom linux-initiator linux-service: $(STAMP) clients
	$(BIN)/python -m scstd.test.$(subst -,_,$@)

soak: $(STAMP)
	$(BIN)/python -m scstd.test.soak

storm: $(STAMP)
	$(BIN)/python -m scstd.test.storm --seeds 500

mutants: $(STAMP)
	$(BIN)/python -m scstd.test.mutants --seed $(SEED)

docs: $(STAMP)
	$(BIN)/python -m scstd.test.generated --write

clean:
	rm -rf $(VENV) build dist *.egg-info _trial_temp* bench/.build
