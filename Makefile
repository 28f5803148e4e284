# The two commands: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install run test test-fast check format lock wheel bench bench-methods clean faults \
    hosts-test compose-test intruders gpu-test

install: $(VENV)/.installed

# With the versions that the tests pass with (`make lock`). A PyTorch that is there already is kept.
PIP := "$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt constraints-torch.txt
	@test -x "$(BIN)/python" || $(PYTHON) -m venv "$(VENV)"
	@echo "installing Covey into $(VENV) (PyTorch is several GB; two to ten minutes the first time)"
	@if "$(BIN)/python" -m pip show --quiet torch 2>/dev/null; \
	    then $(PIP) --editable ".[dev,simulation]"; \
	    else $(PIP) --constraint constraints-torch.txt --editable ".[dev,simulation]"; fi
	@touch "$@"

run: install
	@"$(BIN)/covey" run covey --beside covey-exact

# Two files of tests at a time; then, likewise, those that start a federation of processes.
test: install
	@OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 2 --dist loadfile -m "not federation"
	@"$(BIN)/python" -m pytest -n 2 --dist loadfile -m federation

# A minute: what every change should pass before anything else. What it leaves out: tests/fast.py.
test-fast: install
	@OMP_NUM_THREADS=1 "$(BIN)/python" -m tests.fast

# Tables whose rows are tests: a line per case, `ok` or what went wrong.
CASES = "$(BIN)/python" -m pytest -p tests.case_lines --tb=short

# docs/reliability.md: kills, cut links, full disks, ... on this machine.
faults: install
	@$(CASES) tests/faults

# The server and sites in network namespaces with cut and slow links; docs/coordinator/server.md as it is
# printed. Needs root and iproute2.
hosts-test: install
	@$(CASES) tests/hosts

# The image, and deploy/compose.yaml with three sites, one of them killed (docs/coordinator/containers.md). Needs a
# Docker engine and compose, and nothing of .venv.
compose-test:
	@$(PYTHON) -m tests.compose.run $(LOG)

# docs/security.md: strangers, revoked sites, spoiled messages, ... (10 to 30 minutes).
intruders: install
	@$(CASES) tests/intruders

# What only a GPU can show: two minutes on one.
gpu-test: install
	@"$(BIN)/python" -c "import sys, torch; torch.cuda.is_available() or sys.exit('there is no GPU here')"
	@$(CASES) tests/gpu

check: install
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/ruff" check .
	@"$(BIN)/mypy"

# The versions in .venv, which `make test` passed with, as constraints.txt and constraints-torch.txt.
lock: install
	@"$(BIN)/python" -m tests.lock

# dist/covey-*.whl and .tar.gz, looked through: CONTRIBUTING.md, "How a release is made".
wheel: install
	@"$(BIN)/python" -m tests.wheel

format: install
	@"$(BIN)/ruff" format .
	@"$(BIN)/ruff" check --fix .

bench: install
	@$(PIP) --editable ".[bench]"
	@for script in exchange server_memory train_speed views; do \
	    "$(BIN)/python" "benchmarks/$$script.py" || exit 1; done

# Every recipe against every other (hours): docs/results/methods.csv and methods.html.
bench-methods: install
	@"$(BIN)/python" benchmarks/methods.py --jobs 2

clean:
	@rm -rf "$(VENV)" *.egg-info build dist .pytest_cache .mypy_cache .ruff_cache
