# What one does with this repository. `make help` lists the targets; CONTRIBUTING.md explains the rings of the tests.

.DEFAULT_GOAL := help
.PHONY: help dev build image check test lint fast sim planted process bench tools

# How long the randomised rings run: short or full.
export QUORATE_TEST_EFFORT ?= short

# The simulator is the same code under another runtime, in a target folder of its own.
SIMULATED := CARGO_TARGET_DIR=target-sim RUSTFLAGS="--cfg tokio_unstable --cfg quorate_sim" cargo test --locked

# What the image is called in its archive and in manifests/.
IMAGE ?= localhost/quorate:$(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)

# Checks the Dockerfile; installed on first use.
HADOLINT := target/tools/bin/hadolint

# Rings that take seconds.
FAST := --lib --bins --test shape --test checkers --test cli --test scenarios --test model --test golden --test http --test raft --test image

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: ## Run three members on this machine, with the resources of examples/
	cargo run --locked --quiet -- dev

build: ## Build the optimised binary, target/release/quorate
	cargo build --locked --release

image: build ## Pack target/image/quorate.tar, the image's archive; needs no container engine
	rm -rf target/image && mkdir target/image
	image/root.sh target/release/quorate target/image/root
	image/archive.py target/image/root Dockerfile $(IMAGE) target/image/quorate.tar

test: tools lint fast sim planted process ## Run every ring; installs what they need (QUORATE_TEST_EFFORT=short|full)

check: lint fast sim ## Run the rings that need no privilege and fit in ten minutes; names the others
	cargo test --locked --test dev
	cargo test --locked --test process -- $(if $(shell command -v promtool),,--skip promtool)
	@echo
	@echo "not run: the planted bugs, which take many builds (make planted)"
	@echo "not run: the numbers of full effort (QUORATE_TEST_EFFORT=full make test)"
	@command -v promtool > /dev/null || echo "not run: the check of /metrics by promtool (make tools installs it, as root)"

lint: $(HADOLINT) ## Check format and lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(HADOLINT) Dockerfile

$(HADOLINT): image/requirements.txt
	python3 -m venv target/tools
	target/tools/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	touch $@

fast: ## Run the rings that take seconds
	cargo test --locked $(FAST)

sim: ## Run the simulator; QUORATE_SIM_SEED=N replays one seed
	$(SIMULATED) --test sim -- --nocapture

planted: ## Prove the simulator: bring known bugs back, see each caught
	cargo test --locked --test planted -- --nocapture

process: ## Kill real members on loopback, and more
	cargo test --locked --test process --test dev -- --nocapture

bench: ## Measure an acknowledged write against a sync of the disk
	cargo bench --locked --bench commit

tools: ## Install what the tests need: promtool and Python (Debian packages prometheus, python3-venv)
	@command -v promtool > /dev/null && python3 -c 'import ensurepip' || \
		{ apt-get update && apt-get install --yes --no-install-recommends prometheus python3-venv; }
