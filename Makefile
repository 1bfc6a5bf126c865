# `make` alone says what there is. Everything but `make setup` also works by hand: cargo needs no variable set.
CARGO ?= cargo

.PHONY: help setup demo test bench gallery fuzz tools

help:
	@echo 'make setup   provide libtorch 2.11 as vendor/libtorch (docs/install.md)'
	@echo 'make demo    set up, build, and find, prove and draw the circuit of a task'
	@echo 'make test    set up, then formatting, lints, all tests, with and without libtorch'
	@echo 'make bench   set up, then the benchmarks, into docs/benchmarks.md (needs numpy)'
	@echo 'make gallery set up, then the circuits of all tasks in the embedded models, into circuits/ and docs/gallery.md'
	@echo 'make fuzz    set up, then a minute of damaged model files (needs cargo-fuzz)'

tools:
	@command -v $(CARGO) >/dev/null || { printf 'error: no cargo on PATH\n\nhint: install Rust 1.92 or newer from rustup.rs\n' >&2; exit 2; }
	@command -v "$${CXX:-c++}" >/dev/null || { printf 'error: no C++ compiler on PATH\n\nhint: install one (Debian and Ubuntu: apt install g++; macOS: xcode-select --install)\n' >&2; exit 2; }
	@command -v python3 >/dev/null || { printf 'error: no python3 on PATH\n\nhint: install it with pip (Debian and Ubuntu: apt install python3-pip)\n' >&2; exit 2; }

setup: tools
	@scripts/libtorch

demo: setup
	$(CARGO) build --release
	$(CARGO) run --release --quiet -- discover ioi --model toy-4l

test: setup
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --all-targets --no-default-features -- -D warnings
	$(CARGO) test
	$(CARGO) test --no-default-features
	$(CARGO) test --no-default-features --features hub --test hub

bench: setup
	$(CARGO) bench
	$(CARGO) build --release
	python3 scripts/benchmarks.py

gallery: setup
	$(CARGO) build --release
	python3 scripts/gallery.py

fuzz: setup
	mkdir -p fuzz/corpus/model_files
	for config in tests/data/*/*/config.json; do cp $$config fuzz/corpus/model_files/$$(echo $$config | tr / -); done
	LD_LIBRARY_PATH=$(CURDIR)/vendor/libtorch/lib RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none model_files -- -max_total_time=60 -max_len=4096
