# Hairpin: how it is built, checked and shown. `make help` is the developer's manual.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:

# Kamailio, ip and ethtool live where a plain user's path does not lead.
export PATH := $(PATH):/usr/sbin:/sbin

SYSTEM_PYTHON ?= /usr/bin/python3
PYTHON := .venv/bin/python
PROGRAM := build/relay.bpf.o
SOURCES := $(wildcard relay control tests bench setup.py)

# Root is asked for where namespaces are made and XDP programs loaded, and leaves no files of its own in the tree.
# Whoever is root already needs no sudo.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=CI,TERM PYTHONDONTWRITEBYTECODE=1)
PYTEST := -m pytest --no-skips -p no:cacheprovider
# Tests of one file share a laboratory and stay together. Laboratories wait more than they work: there are more of them
# than processors.
LABORATORIES := --numprocesses=4 --dist=loadfile
WORKERS := --numprocesses=2 --dist

.PHONY: help
help: ## Show this list
	@echo "Hairpin, a media relay for SIP. CONTRIBUTING.md says how the house is built."
	@awk -F ':.*## ' '/^## /{print "\n" substr($$0, 4)} /^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Build

.PHONY: build
build: build-packages .venv/.built program compiled ## Build all that runs: .venv/bin/hairpin and the XDP program

.PHONY: compiled
compiled: .venv/.compiled ## Compile what an ng command passes through (setup.py says which modules)

.PHONY: program
program: build-packages ## Build the XDP program, build/relay.bpf.o
	@$(MAKE) --silent -C ebpf

.PHONY: abi
abi: program .venv/.built ## Generate relay/dataplane/abi.py from the types of the XDP program
	$(PYTHON) -m relay.dataplane.generate_abi $(PROGRAM) >build/abi.py
	mv build/abi.py relay/dataplane/abi.py

.PHONY: clean
clean: ## Remove all that was built, the virtual environment included
	rm -rf build .venv *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find relay control -name '*.so' -delete
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

## See it work

.PHONY: demo
demo: test-packages build privileges ## Real Kamailio, real calls, a live table of streams: the relay at work in a laboratory
	@$(AS_ROOT) $(PYTHON) -m tests.demo

.PHONY: demo-failover
demo-failover: test-packages .venv/.develop build privileges ## Live calls while their address moves and their host dies; draws build/failover.png
	@$(AS_ROOT) $(PYTHON) -m tests.demo_failover

## Test, by what a tier needs

.PHONY: test
test: develop lint unit bpf net interop fuzz ## Everything: lint, then all tiers; a skipped test is a failed one
	@echo "All tiers passed."

.PHONY: lint
lint: develop program generator ## Style, types, import rules, warnings of the C compiler, and whether abi.py is up to date
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/mypy $(SOURCES)
	$(PYTHON) -m relay.dataplane.generate_abi --check $(PROGRAM)
	HAIRPIN_INTERPRETED=1 $(PYTHON) $(PYTEST) -q tests/unit/test_layers.py

.PHONY: format
format: develop ## Lay out the Python code as lint wants it
	.venv/bin/ruff check --fix $(SOURCES)
	.venv/bin/ruff format $(SOURCES)

.PHONY: unit
unit: develop compiled ## Pure code, no privileges: from its sources, and as it is compiled
	HAIRPIN_INTERPRETED=1 $(PYTHON) $(PYTEST) $(WORKERS)=loadfile tests/unit
	$(PYTHON) $(PYTEST) $(WORKERS)=loadfile tests/unit

.PHONY: bpf
bpf: develop program generator compiled privileges ## Tables of packets through the XDP program (root)
	$(AS_ROOT) $(PYTHON) $(PYTEST) tests/bpf

.PHONY: net
net: develop program compiled privileges ## The relay and its traffic in network namespaces (root)
	$(AS_ROOT) $(PYTHON) $(PYTEST) $(LABORATORIES) tests/net

.PHONY: interop
interop: develop program compiled test-packages privileges ## Kamailio, sipp, rtpengine and tshark around the relay (root)
	$(AS_ROOT) $(PYTHON) $(PYTEST) $(WORKERS)=loadfile tests/interop

.PHONY: fuzz
fuzz: develop program compiled privileges ## Random input to all that parses, and to the XDP program (root)
	$(AS_ROOT) $(PYTHON) $(PYTEST) $(WORKERS)=worksteal tests/fuzz

.PHONY: floor
floor: develop program compiled privileges ## Tier bpf and the core of tier net under the oldest supported kernel, in a virtual machine (root)
	$(AS_ROOT) $(PYTHON) -m tests.kernel

## Measure

.PHONY: bench
bench: test-packages .venv/.develop build generator privileges ## What packets, calls and failovers cost, against what bench/README.md says (root)
	$(AS_ROOT) $(PYTHON) -m bench.fastpath
	$(AS_ROOT) $(PYTHON) -m bench.ng
	$(AS_ROOT) $(PYTHON) -m bench.ng --replicated
	$(AS_ROOT) $(PYTHON) -m bench.replication
	$(AS_ROOT) $(PYTHON) -m bench.failover

.PHONY: generator
generator: build-packages
	@$(MAKE) --silent -C bench

## Set up (the targets above do this by themselves)

.PHONY: develop
develop: test-packages .venv/.develop ## The virtual environment with the tools of a developer

.PHONY: build-packages
build-packages:
	@deploy/install-packages.sh build

.PHONY: test-packages
test-packages:
	@deploy/install-packages.sh build test

.PHONY: privileges
privileges:
	@if [ -n "$(AS_ROOT)" ] && ! sudo -n true 2>/dev/null; then \
		echo "sudo is needed to make network namespaces and to load XDP programs into them:"; sudo true; fi

$(PYTHON): | build-packages
	$(SYSTEM_PYTHON) -m venv .venv

.venv/.built: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[build]'
	@touch $@

.venv/.develop: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/.built

# One library holds all compiled modules, so a change of one compiles all. A module that is compiled no longer would hide
# its source: all go before.
.venv/.compiled: setup.py $(wildcard relay/*.py relay/dataplane/*.py control/chronicle.py control/ng/*.py control/sdp/*.py) | .venv/.built
	@echo "Compiling the control plane, which takes a minute"
	@find relay control -name '*.so' -delete
	@HAIRPIN_COMPILE=1 $(PYTHON) -W ignore setup.py --quiet build_ext --inplace --build-temp build/compiled >build/compiled.log 2>&1 \
		|| { cat build/compiled.log; exit 1; }
	@find relay control -name '*.so' -exec touch {} +
	@touch $@
