PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVE ?= 1
FAST := tests/core tests/config tests/guard tests/limiter tests/routing tests/telemetry tests/architecture \
	$(addprefix --ignore tests/,telemetry/test_posthog_outages.py limiter/leased/test_fleet_simulation.py \
	$(addprefix guard/test_,nothing_leaks.py loop_cancelled.py every_ending.py answer_cache.py latency_decisions.py \
	experiments_over_http.py hedging_over_http.py hedging_properties.py hedging_tail.py tiers_over_http.py)) \
	-k 'not redis and not cluster'

# LiteLLM downloads its price map at import unless told to use the one it ships.
export LITELLM_LOCAL_MODEL_COST_MAP = True
# Each of the test processes would compile all modules, and rewrite all tests.
unexport PYTHONDONTWRITEBYTECODE

# What is tested on another LiteLLM, in an environment of its own.
OTHER := .venv-litellm-$(VERSION)
ON_OTHER := $(wildcard $(addprefix tests/,litellm_adapter guard failover drop_in proxy))

.PHONY: demo assistant test test-fast test-python test-litellm sdk-trials wheel-trial lint site bench screenshot format clean

demo: $(STAMP)
	$(BIN)/wallie-litellm demo $(if $(filter 0,$(SERVE)),--no-serve)

# The example application: on simulated providers, or with LIVE=1 on the keys of the environment.
assistant: $(STAMP)
	$(BIN)/python -m examples.wallie_assistant $(if $(filter 1,$(LIVE)),--live)

test: $(STAMP)
	@sh tests/install_browser.sh
	$(BIN)/python -m pytest --numprocesses auto

# The rules, without proxies, browsers, databases, Redis and the long runs: for the minutes of development.
test-fast: $(STAMP)
	$(BIN)/python -m pytest --numprocesses logical $(FAST)

# The whole suite on another Python, in an environment of its own: make test-python PYTHON=python3.14
test-python:
	$(MAKE) test VENV=.venv-$(notdir $(PYTHON))

# The seam to LiteLLM on another release of it: make test-litellm VERSION=1.106.2
test-litellm:
	@test -n "$(VERSION)" || { echo "which LiteLLM? make test-litellm VERSION=1.106.2" >&2; exit 2; }
	PYTHON=$(PYTHON) sh tests/install_litellm.sh $(VERSION) $(OTHER)
	$(OTHER)/bin/python -m pytest --numprocesses auto $(ON_OTHER)

# LangChain, Instructor, the Agents SDK, OpenAI's, Anthropic's and Vercel's against the library and a proxy.
sdk-trials:
	$(PYTHON) examples/sdk_trials/run.py

# The wheel in an empty environment: the demo, the proxy, the page, a ledger of the first version.
wheel-trial:
	$(PYTHON) examples/wheel_trial.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=tests $(BIN)/python -m architecture
	$(BIN)/mypy

# The documentation as a site, in docs/_site.
site: $(STAMP)
	$(BIN)/python docs/make_reference.py
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_site
	@echo docs/_site/index.html

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# What it is compared with is installed into .venv-reliability, from PyPI and npm.
reliability: $(STAMP)
	$(BIN)/python -m benchmarks reliability

screenshot: $(STAMP)
	@sh tests/install_browser.sh
	$(BIN)/python docs/make_screenshot.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf .venv .venv-python* .venv-litellm-* .venv-sdk-trials .venv-reliability examples/sdk_trials/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
