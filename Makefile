# What one does with this repository. `make help` lists the targets; CONTRIBUTING.md explains the rings of the tests.

.DEFAULT_GOAL := help
.PHONY: help dev build image manifests check test tests lint fast fast-model fast-others chart sim planted process process-and-build build-next kube kube-check kube-build kube-api kube-nodes kube-long kube-in-turn kube-faults kube-random kube-outage kube-release kube-chart kube-pages kube-timed kube-up kube-down kube-shell bench figures tools

# How long the randomised rings run: short or full.
export QUORATE_TEST_EFFORT ?= short

# The simulator is the same code under another runtime, in a target folder of its own.
SIMULATED := CARGO_TARGET_DIR=target-sim RUSTFLAGS="--cfg tokio_unstable --cfg quorate_sim" cargo test --locked --profile sim

# What the image is called in its archive and in the chart.
IMAGE ?= localhost/quorate:$(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)

# Check the Dockerfile, the answers of a member, and what the chart renders; installed on first use.
HADOLINT := target/tools/bin/hadolint
SCHEMATHESIS := target/tools/bin/schemathesis
SCHEMAS := target/tools/bin/kubernetes-validate

# Starts and ends Kubernetes clusters, of which kube-up, kube-shell and kube-down use the one that is called so.
CLUSTER := tests/kube/cluster/cluster
NAME ?= quorate

# Runs the tests of Kubernetes in a cluster that begins and ends with them; $(1) is its number of nodes.
IN_KUBERNETES = cargo test --locked --config 'target."cfg(all())".runner = ["tests/kube/run", "$(1)"]' --test kube -- --nocapture

# Programs that the tests need, each with the Debian package that has it, and the packages of those that are missing.
FOR_CLUSTERS := containerd=containerd runc=runc iptables=iptables nft=nftables ip=iproute2 conntrack=conntrack openssl=openssl
PROGRAMS := promtool=prometheus faketime=faketime java=default-jdk-headless $(FOR_CLUSTERS)
MISSING = $(foreach pair,$(PROGRAMS),$(if $(shell command -v $(firstword $(subst =, ,$(pair)))),,$(lastword $(subst =, ,$(pair))))) \
	$(if $(wildcard /usr/lib/cni/bridge),,containernetworking-plugins) \
	$(if $(shell python3 -c 'import ensurepip' && echo there),,python3-venv)

# Rings that take seconds. The model computes all the while, on one processor, and the others wait most of the time.
FAST := --lib --bins --test shape --test checkers --test cli --test scenarios --test golden --test generated --test http --test raft --test copies --test image

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: ## Run three members on this machine, with the resources of examples/
	cargo run --locked --quiet -- dev

build: ## Build the optimised binary, target/release/quorate
	cargo build --locked --release

image: build ## Pack target/image/quorate.tar, the image's archive; needs no container engine
	rm -rf target/image && mkdir target/image
	image/root.sh target/release/quorate target/image/root
	image/archive.py target/image/root Dockerfile $(IMAGE) target/image/quorate.tar

manifests: ## Write anew what is made from crds/ and charts/quorate: the chart's CRDs, and manifests/
	rm -rf charts/quorate/crds && cp -r crds charts/quorate/crds
	charts/manifests.sh manifests

# The planted bugs take minutes: at full effort only.
PLANTED := $(if $(filter full,$(QUORATE_TEST_EFFORT)),planted)

test: tools lint tests fast chart sim $(PLANTED) process-and-build kube kube-long ## Run the rings; installs what they need (QUORATE_TEST_EFFORT=short|full)
	$(if $(PLANTED),,@echo "not run: the planted bugs, which take minutes (make planted)")

check: lint fast chart sim $(SCHEMATHESIS) ## Run the rings that need no privilege and fit in ten minutes; names the others
	cargo test --locked --test dev
	cargo test --locked --test process -- $(if $(shell command -v promtool),,--skip promtool) $(if $(shell command -v faketime),,--skip wall_clocks)
	@echo
	@echo "not run: the planted bugs, which take minutes (make planted)"
	@echo "not run: a real Kubernetes, which needs root (make kube kube-faults kube-release)"
	@echo "not run: the numbers of full effort (QUORATE_TEST_EFFORT=full make test)"
	@command -v promtool > /dev/null || echo "not run: the check of /metrics by promtool (make tools installs it, as root)"
	@command -v faketime > /dev/null || echo "not run: wall clocks that jump (make tools installs faketime, as root)"

# All at once, since each is a program of its own, and the last of one ring's would be linked alone.
tests:
	cargo test --locked --no-run --tests

lint: $(HADOLINT) ## Check format and lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(HADOLINT) Dockerfile

$(HADOLINT): image/requirements.txt
$(SCHEMATHESIS): tests/process/fuzzing/requirements.txt
$(SCHEMAS): tests/chart/requirements.txt
$(HADOLINT) $(SCHEMATHESIS) $(SCHEMAS):
	python3 -m venv target/tools
	target/tools/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	touch $@

fast: ## Run the rings that take seconds
	cargo test --locked --no-run $(FAST) --test model
	$(MAKE) --jobs=2 fast-model fast-others

fast-model:
	cargo test --locked --test model

fast-others:
	cargo test --locked $(FAST)

chart: $(SCHEMAS) ## Check the chart and the manifests with Helm, kubeconform and kube-score
	cargo test --locked --test chart

sim: ## Run the simulator; QUORATE_SIM_SEED=N replays one seed
	$(SIMULATED) --test sim -- --nocapture

planted: ## Prove the simulator: bring known bugs back, see each caught
	cargo test --locked --test planted -- --nocapture

process: $(SCHEMATHESIS) ## Kill real members on loopback, and more
	cargo test --locked --test process --test dev -- --nocapture

# Members that are killed wait most of the time, for each other: what the next rings need is built with what they leave.
process-and-build:
	$(MAKE) --jobs=2 process build-next

build-next:
	nice -n 19 $(MAKE) kube-build image

bench: build ## Measure commits, loads, fail-overs and growth, also beside etcd; about an hour
	cargo bench --locked --bench commit
	target/release/quorate bench expiry
	target/release/quorate bench growth
	target/release/quorate bench load --against etcd --etcd "$$(tests/kube/cluster/build.sh etcd)/etcd"
	target/release/quorate bench failover --against etcd --etcd "$$(tests/kube/cluster/build.sh etcd)/etcd"

# ROUNDS of each fail-over, FEW of those that wait for a Lease or a TTL, TIMES the whole of it.
figures: export ROUNDS ?= 300
figures: export FEW ?= 30
figures: export TIMES ?= 2
figures: build ## Take the figures of docs/performance.md into target/figures: results, tables, drawings (ROUNDS=N FEW=N TIMES=N ONLY=load)
	benches/figures.sh target/figures

# Before anything is built or installed for what cannot be.
kube-check:
	@$(if $(QUORATE_TEST_KUBECONFIG),,$(CLUSTER) check $(NAME))

# What is less at short effort than at full.
LESS := fewer faults of each kind, no clusters side by side, fewer changes whose times are taken, all values of the chart in one upgrade

# Two clusters side by side: one waits for its API server most of the time.
kube: kube-check image ## Break nodes, pods and the API server of a real Kubernetes under members in pods
	$(MAKE) --jobs=2 kube-nodes kube-api
	$(if $(filter full,$(QUORATE_TEST_EFFORT)),,@echo "at short effort: $(LESS) (QUORATE_TEST_EFFORT=full)")

# Most tests wait most of the time, each for its turn with the nodes or for its API server: so there are more at a time than
# processors.
kube-nodes:
	$(call IN_KUBERNETES,3) --test-threads=8 --skip api:: --skip abreast:: --skip release:: --skip faults::random --skip faults::outage

kube-long: kube-check image ## What make kube-faults and make kube-release do, mostly two clusters at a time
	$(MAKE) --jobs=2 kube-in-turn kube-chart
	$(MAKE) kube-timed

kube-in-turn:
	$(MAKE) kube-random
	$(MAKE) kube-outage
	$(MAKE) kube-pages

kube-faults: kube-check image ## Draw faults at random, one after the other and two at a time (QUORATE_FAULT_SEED=N)
	$(MAKE) --jobs=2 kube-random kube-outage

kube-random:
	$(call IN_KUBERNETES,3) faults::random

kube-outage: export QUORATE_OUTAGE ?= $(if $(filter full,$(QUORATE_TEST_EFFORT)),600,20)
kube-outage: ## Take the API server away for ten minutes, or QUORATE_OUTAGE=SECONDS, with an image of `make image`
	$(call IN_KUBERNETES,3) faults::outage

kube-release: kube-check image kube-chart kube-pages kube-timed ## Install, change and remove the chart on a real Kubernetes, as the README says

# What readers of the documents do, and see, and a few more: what comes after the faults should end with all the rest.
PAGES := release::readme release::runbooks release::declaring release::prometheus release::growing release::gone

# What must not take long, must cost nobody anything, or must be so many a second: two processors with another cluster beside it
# would be what is measured.
TIMED := release::planned release::electing::a_service release::steady::while release::swift release::weather

kube-chart:
	$(call IN_KUBERNETES,3) release:: $(addprefix --skip ,$(PAGES) $(TIMED))

kube-pages:
	$(call IN_KUBERNETES,3) $(PAGES)

kube-timed: ## Run what must be soon, or so many a second, with an image of `make image` and nothing beside it
	$(call IN_KUBERNETES,3) $(TIMED)

# Dozens of clusters run on this machine there: with members that are not optimised, it would be twice as much work.
kube-api: export QUORATE_TEST_PROGRAM = $(CURDIR)/target/release/quorate
kube-api: kube-check build ## Run the tests that need only the API server, without nodes, and those of clusters themselves
	$(call IN_KUBERNETES,0) --test-threads=5 api:: abreast:: $(if $(filter full,$(QUORATE_TEST_EFFORT)),,--skip abreast::clusters)

kube-build: kube-check ## Build the programs of a cluster, once
	tests/kube/cluster/build.sh

kube-up: PROGRAMS := $(FOR_CLUSTERS)
kube-up: kube-check tools image ## Start a Kubernetes cluster of three nodes and keep it (NAME=x for another one beside it)
	$(CLUSTER) up $(NAME) 3 target/image/quorate.tar
	@$(CLUSTER) help $(NAME)

kube-shell: ## Open a shell in its network, with its DNS, kubectl and helm
	@$(CLUSTER) exec $(NAME) $${SHELL:-sh} || true

kube-down: ## End it; nothing stays behind
	$(CLUSTER) down $(NAME)

tools: ## Install what the tests need and this machine lacks (Debian packages; as root)
	@packages="$(strip $(MISSING))"; [ -z "$$packages" ] || \
		{ apt-get update && apt-get install --yes --no-install-recommends $$packages; }
