# make train: install, train on the recording, evaluate there and with the LLM.
# make test: install, run the tests.
PYTHON ?= python3
RUN ?= runs/movies
BIN := .venv/bin

.PHONY: train test check

train: .venv/installed
	@if [ -f $(RUN)/config.json ]; then \
		$(BIN)/rpp train --resume $(RUN); \
	else \
		$(BIN)/rpp train --out $(RUN); \
	fi
	$(BIN)/rpp evaluate $(RUN)
	$(BIN)/rpp evaluate $(RUN) --live

test: .venv/installed
	$(BIN)/rpp fetch --all
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# The folder agents/ is installed as rpp_agents; mypy is shown it under that name.
	@mkdir -p .venv/typing && ln -sfn $(CURDIR)/agents .venv/typing/rpp_agents
	MYPYPATH=.venv/typing $(BIN)/mypy -p rpp_env -p rpp_agents

.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	@# torch first and alone, so that nothing else decides which build of it is taken.
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e '.[agents,llm,test,check]'
	@touch $@
