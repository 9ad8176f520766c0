PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SERVE ?= 1
FAST := tests/core tests/config tests/guard tests/limiter tests/telemetry tests/architecture \
	--ignore tests/telemetry/test_posthog_outages.py -k 'not redis and not cluster'

# LiteLLM downloads its price map at import unless told to use the one it ships.
export LITELLM_LOCAL_MODEL_COST_MAP = True

.PHONY: demo test test-fast lint bench screenshot format clean

demo: $(STAMP)
	$(BIN)/wallie-litellm demo $(if $(filter 0,$(SERVE)),--no-serve)

test: $(STAMP)
	@sh tests/install_browser.sh
	$(BIN)/python -m pytest --numprocesses auto

# The rules, without proxies, browsers, databases and Redis: less than a minute.
test-fast: $(STAMP)
	$(BIN)/python -m pytest --numprocesses auto $(FAST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=tests $(BIN)/python -m architecture
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks

screenshot: $(STAMP)
	@sh tests/install_browser.sh
	$(BIN)/python docs/make_screenshot.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
