# `make help` lists what there is. Everything but `help` and `clean` sets itself up first, in .venv.
# PYTHON=/path/to/python3.11 chooses the interpreter; RIVERRANK_CACHE=/folder where the jars are kept.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SECONDS = 60
MINUTES = 10
PY := .venv/bin/python
SETUP := .venv/.setup-done
PACKAGES := state operators jobs
# An environment of the caller's (a conda base, a Flink of its own) must not lead this one astray.
unexport PYTHONHOME PYTHONPATH FLINK_HOME FLINK_CONF_DIR

.PHONY: help setup demo test prometheus chromium open-bandit faults soak docs-check bench bench-quick lint sbom audit zip clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(SETUP) ## the virtual environment and the jars; every other target does it by itself

demo: $(SETUP) ## a simulated shop on a real Kafka, Flink and Valkey, for a minute (SECONDS=600 for longer)
	.venv/bin/riverrank demo --seconds $(SECONDS)

test: lint prometheus chromium open-bandit ## all that must hold: lint, types, doctests, and tests on the real services
	$(PY) -m pytest

prometheus: $(SETUP) ## on Debian: Prometheus in .venv/bin, for the tests of the alerts, which are skipped without it
	@.ci/get-prometheus .venv/bin

chromium: ## on Debian, as root: installs a browser, for the tests of the page, which are skipped without one
	@.ci/get-chromium

open-bandit: $(SETUP) ## the Open Bandit sample in build, for the test of estimators, which is skipped without it
	@.ci/get-open-bandit $(PY) build

faults: $(SETUP) ## breaks things under the job, each in its way, for 45 minutes; writes docs/faults.md
	$(PY) -m pytest tests/faults --faults --faults-table docs/faults.md

soak: $(SETUP) ## a job that runs for MINUTES=10: whether its memory or state grows; writes docs/soak.md
	$(PY) -m riverrank.jobs.dev.soak --minutes $(MINUTES) --write docs/soak.md

docs-check: $(SETUP) ## runs every command and client that README and docs show, as they stand, in minutes
	$(PY) -m pytest tests/docs_check.py tests/clients_check.py

bench: $(SETUP) ## what the job costs in time and bytes, beside other ways; writes docs/benchmarks.md
	$(PY) -m riverrank.jobs.dev.benchmarks --write docs/benchmarks.md

bench-quick: $(SETUP) ## slates per second, in three minutes: the job, replay, the tutorials' way, an empty job
	$(PY) -m riverrank.jobs.dev.benchmarks --quick

lint: $(SETUP) ## ruff, and the type checker
	$(PY) -m ruff check .
	@rm -rf build/types && mkdir -p build/types/riverrank
	@for package in $(PACKAGES); do ln -s ../../../$$package build/types/riverrank/$$package; done
	MYPYPATH=build/types $(PY) -m mypy $(PACKAGES:%=-p riverrank.%)

sbom: $(SETUP) ## sbom.json: all packages and jars that the locks name, with hashes and licences, in CycloneDX
	$(PY) -m riverrank.jobs.dev.sbom sbom.json

audit: $(SETUP) ## asks the package index for yanked versions, lost files and advisories (AUDIT=--skip-offline)
	$(PY) -m riverrank.jobs.dev.audit $(AUDIT)

zip: $(SETUP) ## riverrank.zip, for `flink run -pyfs`
	$(PY) -m riverrank.jobs.dev.bundle riverrank.zip

clean: ## removes what was made here: .venv, builds, caches of tools (the jars stay in their cache)
	rm -rf .venv build dist riverrank.zip sbom.json riverrank.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -prune -exec rm -rf {} +

$(SETUP): export PIP_DISABLE_PIP_VERSION_CHECK := 1
$(SETUP): setup.py pyproject.toml requirements.lock requirements-dev.lock jobs/flink/jars.lock
	@python=$$(.ci/find-python); \
	if ! $(PY) -c 'import sys, pip; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then \
	    echo "riverrank: making .venv with $$python"; \
	    "$$python" -m venv --clear .venv; \
	fi
	@echo "riverrank: installing what requirements.lock names, by its hashes (some 600 MB to fetch, minutes)"
	@.ci/install-locked $(PY) requirements.lock requirements-dev.lock
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(PY) -m pip check
	@if [ -z "$$($(PY) -m find_libpython)" ]; then \
	    echo "riverrank: $$($(PY) -c 'import sys; print(sys._base_executable)') has no shared libpython, which Flink's" \
	        "thread mode needs. Mend: make clean setup PYTHON=/path/to/another/python3.11" >&2; \
	    exit 1; \
	fi
	@ln -sf "$$($(PY) -c 'from pathlib import Path; import pyflink; print(Path(pyflink.__file__).parent)')/bin/flink" \
	    .venv/bin/flink
	@echo "riverrank: fetching jars"
	@$(PY) -m riverrank.jobs.flink.jars
	@$(PY) -m riverrank.jobs.dev.warm
	@$(PY) -m riverrank.jobs.flink.classes
	@touch $@
