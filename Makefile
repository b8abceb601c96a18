# Cenote's commands. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup configure program build run test bench bench-quick bench-peers bench-count asan tsan lint format

BUILD := build/release
JOBS ?= $(shell nproc)
EPOCHS ?= 2

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 19

setup:  ## Install what is missing: Debian packages, and .venv with torch
	@tools/setup.sh

configure: setup
	@echo "== build: configuring and compiling into $(BUILD)"
	@cmake --preset release --log-level=NOTICE -DCENOTE_WERROR=$(if $(CI),ON,OFF)

program: configure
	@cmake --build $(BUILD) -j$(JOBS) --target cenote_cli

build: configure  ## Build the release preset into build/release
	@cmake --build $(BUILD) -j$(JOBS)

run: program  ## Build the program, then train two epochs on Fashion-MNIST and write a report
	@out=runs/fashion-mnist-$$(date +%Y%m%d-%H%M%S)-$$$$; \
	echo "== run: training $(EPOCHS) epochs on Fashion-MNIST into $$out"; \
	$(BUILD)/bin/cenote train --data fashion-mnist --epochs $(EPOCHS) --out "$$out" && \
	echo "== run: the report is $$out/index.html"

test: build  ## Build, then run every test
	@echo "== test: running all tests"
	@ctest --test-dir $(BUILD) --output-on-failure -j$(JOBS)

bench-peers:  ## Install the libraries that the benchmark compares with, beside torch
	@tools/setup.sh bench

bench: build  ## Build, then compare with other libraries and with a plain copy; BENCH_FLAGS=--resume goes on
	@echo "== bench: measuring, results go to build/bench"
	@$(BUILD)/bin/cenote_compare --torch-compile --out-dir build/bench $(BENCH_FLAGS)
	@python3 bench/report.py build/bench

bench-quick: build  ## The same with the rows that tell most, in about 6 minutes
	@echo "== bench: measuring, results go to build/bench-quick"
	@$(BUILD)/bin/cenote_compare --quick --out-dir build/bench-quick $(BENCH_FLAGS)
	@python3 bench/report.py build/bench-quick

bench-count: build  ## Count the instructions of some calls, with valgrind
	@python3 bench/instructions.py $(BUILD)/bin/cenote_repeat_calls

asan: setup  ## Run the tests under the address and undefined-behaviour sanitizers
	@echo "== asan: building and testing in build/asan"
	@cmake --preset asan --log-level=NOTICE
	@cmake --build build/asan -j$(JOBS)
	@ctest --test-dir build/asan --output-on-failure -j$(JOBS)

tsan: setup  ## Run the tests under the thread sanitizer
	@echo "== tsan: building and testing in build/tsan"
	@cmake --preset tsan --log-level=NOTICE
	@cmake --build build/tsan -j$(JOBS)
	@ctest --test-dir build/tsan --output-on-failure -j$(JOBS)

lint: build  ## Check the formatting and run clang-tidy
	@tools/setup.sh lint
	@echo "== lint: clang-format, then clang-tidy"
	@tools/format.sh --check
	@tools/lint.sh $(BUILD)

format:  ## Rewrite the sources in the project's format
	@tools/setup.sh lint
	@tools/format.sh
