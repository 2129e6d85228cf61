PYTHON ?= python3
BIN := .venv/bin

# What `make demo` erases (else a star, and a cat in the gallery), and its kind: object, style,
# person, relation or nudity.
CONCEPT ?=
KIND ?= object
# Which miniature: Flux, SD3.5, or gallery.
MODEL ?= Flux

# pyright would otherwise ask a registry whether it is the newest.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: demo test test-all gpu setup clean

demo: setup
	$(BIN)/python scripts/demo.py $(if $(CONCEPT),--concept "$(CONCEPT)") --kind "$(KIND)" --model "$(MODEL)"

test: setup
	@$(PYTHON) scripts/setup.py --tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pytest

# Also what is left out of `test`: the oldest frontend everywhere, every template in the server, ...
test-all: setup
	@$(PYTHON) scripts/setup.py --tests
	$(BIN)/pytest -m ''

# What a CUDA card makes of it, in eight minutes at most: benchmarks/results/gpu.json.
gpu: setup
	$(BIN)/python -m benchmarks.gpu

# .venv and .comfyui, given or taken from COMFYUI_PATH. A second run takes a second.
setup:
	@$(PYTHON) scripts/setup.py

# What demo and test left behind; the set-up stays.
clean:
	rm -rf output/demo .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -not -path './.comfyui/*' -prune -exec rm -rf {} +
