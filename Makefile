# Everything a person or a machine does here. On a fresh machine with python3, venv, pip and make, each target does
# all it needs by itself: `make test` alone is enough.

.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS := .venv-docs
ARGS ?=

# Byte code is always written: without it every start of a member pays for compiling it again.
unexport PYTHONDONTWRITEBYTECODE
# Certificates that the system trusts (a company's proxy) count for uv too, as they do for pip.
export UV_SYSTEM_CERTS ?= 1
# What a person has set for other projects must not reach into this environment.
unexport PYTHONPATH VIRTUAL_ENV

.PHONY: help setup system check format reference mixin unit test sim proof airflow demo cluster havoc docs picture lock faults faults-process faults-forgetful faults-fence bench clean

help: ## Show this list
	@echo "make TARGET [ARGS='…']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.uv: locks/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "HeirFlow needs Python 3.10 or later; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "Python lacks venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r locks/uv.txt
	@touch $@

$(READY): $(VENV)/.uv locks/dev.txt pyproject.toml
	@echo "Installing what is pinned in locks/dev.txt (about 150 MB the first time, most of it a PostgreSQL for the tests)"
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r locks/dev.txt
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(READY) ## Make .venv with everything that is pinned, and HeirFlow itself

system: ## Install the Debian packages that tests need (as root), or say what cannot run without them
	@tools/system_packages.sh
	@[ -n "$$HEIRFLOW_TEST_MYSQL_URL" ] || tools/real_mysql.sh || true

format: $(READY) ## Bring the code into the house's form
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

reference: $(READY) ## Write docs/reference.md, docs/api.md and man/ anew, after a change of a command or a public docstring
	@$(BIN)/python tools/reference.py

mixin: $(READY) ## Write the alerts and the Grafana board anew, after a change in deploy/mixin
	@$(BIN)/python tools/mixin.py

check: $(READY) ## Lint, form, types, and the house's own rules (which room may import which, …)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_house.py

unit: $(READY) ## The quick tests only; ARGS are pytest's
	@$(BIN)/python -m pytest tests/unit tests/cli $(ARGS)

test: $(READY) system check airflow ## Everything: check, then all tests; ARGS are pytest's
	@tools/run_tests.sh $(BIN)/python $(ARGS)

sim: $(READY) ## Play WORLDS=1000 simulated worlds from SEED=0 on; a red one prints its short story
	@$(BIN)/python -m lab.sim.sim --worlds $(or $(WORLDS),1000) --seed $(or $(SEED),0) $(ARGS)

proof: $(READY) ## Check the model of the protocol in every state, and find every planted fault (up to half an hour); ARGS=--short
	@$(BIN)/python proof/check.py $(ARGS)

airflow: $(READY) ## Make the environments with Airflow 3.3 and 2.11 that the tests and the demo use
	@$(BIN)/python -m lab.airflow.environment

demo: $(READY) ## Real Airflow, three schedulers in line, and the leader dies; ARGS='--no-airflow', '--keep'
	@$(BIN)/python -m lab.airflow $(ARGS)

cluster: $(READY) ## Whole Airflow in line: RabbitMQ, Celery, three elections; ARGS='--executor local', '--store etcd', '--keep', '--ha'
	@[[ " $(ARGS) " != *" --ha "* ]] || tools/system_packages.sh
	@$(BIN)/python -m lab.airflow --cluster $(ARGS)

havoc: $(READY) system ## Lose one part after another of the cluster of --ha, and judge (root, Debian); ARGS='--losses 30 --seed 7 --picture FILE'
	@$(BIN)/python bench/havoc.py $(ARGS)

faults: $(READY) system ## The fault laboratory (root, Linux): MINUTES=60 SEED=7; draws build/faults.svg; ARGS='--world seats', '--world etcd', '--world zookeeper', '--world patroni', '--world patroni-async'
	@mkdir -p build
	@$(BIN)/python -m lab.campaign --minutes $(or $(MINUTES),60) --seed $(or $(SEED),7) \
		--picture build/faults.svg --summary build/faults.json $(ARGS)

faults-process: $(READY) system ## Kill and freeze every process of a member, 20 times each (about 30 minutes)
	@$(BIN)/python -m pytest tests/process/test_nobody_is_left.py tests/faults/test_processes.py --repeat 20 $(ARGS)

faults-forgetful: $(READY) system ## Fail the database over to a standby that forgot who leads, 50 times each way (about half an hour); ARGS='--world postgres'
	@$(BIN)/python -m lab.campaign --only forgetful --times 50 $(ARGS)

faults-fence: $(READY) ## Freeze a whole host past its lease and thaw it, 100 times with the fence; ARGS='--way "lease only"'
	@$(BIN)/python bench/fence.py --only thaw --tries 100 $(if $(ARGS),$(ARGS),--way fenced)

bench: $(READY) ## How long a failover takes (ARGS='--runs 20') and what an heir costs; bench/ has more
	@$(BIN)/python bench/failover.py $(ARGS)
	@$(BIN)/python bench/load.py

$(DOCS)/.ready: $(VENV)/.uv locks/docs.txt
	@echo "Making $(DOCS) from locks/docs.txt"
	@rm -rf $(DOCS)
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv venv --quiet --python $(BIN)/python $(DOCS)
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --python $(DOCS)/bin/python --compile-bytecode --require-hashes -r locks/docs.txt
	@touch $@

# Not --quiet: with it, --strict does not see warnings.
docs: $(DOCS)/.ready ## Build the site from docs/ into build/site; a link or anchor that leads nowhere is an error; ARGS=serve shows it
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs $(if $(ARGS),$(ARGS),build) --strict
	@$(if $(ARGS),,echo "The site: build/site/index.html")

picture: $(READY) $(DOCS)/.ready ## Record the demonstration anew: docs/pictures/takeover.svg
	@$(DOCS)/bin/python tools/record_demo.py docs/pictures/takeover.svg --begin "Three members join" \
		--title "Three members in line: the leader is killed with -9, and its heir takes charge; then a switchover" \
		-- $(BIN)/python -m lab.airflow --no-airflow --pause 2s

lock: $(VENV)/.uv ## Write locks/*.txt anew; ARGS=--upgrade takes newer versions
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/lock.sh $(ARGS)

clean: ## Remove what make and the tools made
	@rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
