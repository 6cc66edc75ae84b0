# The project's commands. `make` alone names them.

CARGO ?= cargo
PORT ?= 1053
FUZZ_SECONDS ?= 60

.PHONY: help run test fmt lint check fuzz bench bench-compare loadtest conformance screenshots image deb
.DEFAULT_GOAL := help

help: ## name these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: ## build and start the server on port 1053, with a sample cluster to try
	tests/setup build
	$(CARGO) run --release --locked --bin corelane -- try -p $(PORT)

test: ## install what is missing, then run every test
	tests/setup build conformance deploy observe
	$(CARGO) test --workspace --locked

conformance: ## the conformance corpus beside this repository, if there is one
	tests/conformance

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## what needs no run: format, clippy, licences and advisories
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo-deny check; \
	else echo 'lint: skipped: cargo-deny is not installed (cargo install cargo-deny)'; fi

check: lint test ## lint and test: run before a commit

fuzz: ## each fuzz target for FUZZ_SECONDS (needs nightly Rust and cargo-fuzz)
	@for target in $$($(CARGO) +nightly fuzz list --fuzz-dir tests/fuzz); do \
	    echo "fuzz: $$target"; \
	    $(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz $$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit 1; \
	done

bench: ## micro-benchmarks
	$(CARGO) bench --workspace --locked

bench-compare: ## instructions a query on the stock chain against BASE=COMMIT: at most 3 % more
	@test -n "$(BASE)" || { echo 'bench-compare: say with what: make bench-compare BASE=main'; exit 2; }
	tests/setup build bench
	bench/compare $(BASE)

loadtest: ## servers side by side under load, with a report; LOADTEST="auth tcp --rounds 9" chooses
	tests/setup build loadtest peers
	$(CARGO) build --release --workspace --locked
	loadtest/run $(LOADTEST)

screenshots: ## the status page in both colour schemes, wide and narrow, in target/screenshots (needs Chromium)
	tests/setup build observe
	$(CARGO) build --locked --bin corelane
	mkdir -p target/screenshots
	python3 tests/observe/browser.py target/debug/corelane --screenshots target/screenshots

image: ## the container image, with buildah or docker
	tests/setup build image
	deploy/image

deb: ## the Debian package, in target/deb
	tests/setup build deb
	deploy/deb
