# Everything a developer does with Aldis. `make` lists the targets; .ci/run does nothing but `make test`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# What is downloaded or built lands outside the clone, where a fresh clone finds it again.
export ALDIS_CACHE ?= $(HOME)/.cache/aldis
export CARGO_TARGET_DIR ?= $(ALDIS_CACHE)/target
# Where require() in tests/node finds the Socket.IO clients.
export NODE_PATH := $(ALDIS_CACHE)/node/node_modules
# Where cargo finds its subcommands deny and nextest.
export PATH := $(ALDIS_CACHE)/tools/bin:$(PATH)

# The directory of manifests that `make dev` runs.
DIR ?= examples/bistro
# What `make bench` is told: a scenario and options, see docs/benchmarks.md.
BENCH_ARGS ?=

# Programs of Kubernetes, built beside everything else: those that the tests wait for first, then those of a whole cluster, where there
# can be one, with what time is left.
BUILD_CLUSTER := nice scripts/setup.sh kubernetes; if scripts/cluster.sh check; then nice -n 19 env -u KUBEBUILDER_ASSETS scripts/setup.sh kubernetes cluster; fi

CRDS := notificationgateways notificationchannels gatewayconfigs
STAGE := scripts/stage.sh
# An exception in deny.toml that nothing needs any more is an error.
DENY := cargo deny --locked check -D unmatched-skip -D unmatched-skip-root -D unnecessary-skip

.PHONY: help
help: ## list the targets
	@echo "Usage: make TARGET"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

.PHONY: dev
dev: ## build and run gateway, broker and channels of DIR (default examples/bistro) on this machine
	@echo "==> making sure that the C compiler and OpenSSL's headers are there"
	@scripts/setup.sh apt
	@echo "==> building aldis (into $(CARGO_TARGET_DIR); the first time takes minutes)"
	@cargo build --locked --bin aldis
	@mkdir -p bin && ln -sfn "$(CARGO_TARGET_DIR)/debug/aldis" bin/aldis
	@exec bin/aldis dev $(DIR)

# The whole workspace at once, always: building one package alone would select other features and build everything again.
.PHONY: test
test: ## everything that CI checks: formatting, lints, dependencies, structure and all tests
	@$(STAGE) setup scripts/setup.sh apt browser tools node kafka
	@mkdir -p "$(ALDIS_CACHE)" && { { $(BUILD_CLUSTER); } >"$(ALDIS_CACHE)/kubernetes.log" 2>&1 & }
	@$(STAGE) fmt cargo fmt --all --check
	@$(STAGE) clippy cargo clippy --locked --workspace --all-targets -- -D warnings
	@$(STAGE) deny $(DENY) bans licenses sources
	@$(STAGE) structure $(MAKE) --no-print-directory structure
	@$(STAGE) build-tests cargo nextest run --locked --workspace --no-run
	@$(STAGE) kubernetes scripts/setup.sh kubernetes
	@$(STAGE) tests scripts/with-kafka.sh cargo nextest run --locked --workspace
	@$(STAGE) cluster-test scripts/cluster-test.sh

# Not part of `make test`, in which short seeds run. docs/reliability.md says what it does and what came of it.
.PHONY: chaos
chaos: ## break everything at random for a minute and check what clients saw (SEED=n, SEEDS=n, SABOTAGE=rule, PEER=node)
	@$(STAGE) setup scripts/setup.sh apt tools node kafka $(if $(PEER),peer)
	@$(STAGE) build-tests cargo nextest run --locked --workspace --no-run
	@SEED="$(SEED)" SEEDS="$(SEEDS)" CHAOS_SECONDS="$(CHAOS_SECONDS)" CHAOS_FAULTS="$(CHAOS_FAULTS)" SABOTAGE="$(SABOTAGE)" PEER="$(PEER)" \
	  scripts/chaos.sh

.PHONY: chaos-sabotage
chaos-sabotage: ## switch rules of delivery off, one after the other: chaos has to notice each
	@$(STAGE) setup scripts/setup.sh apt tools node kafka
	@$(STAGE) build-tests cargo nextest run --locked --workspace --no-run
	@scripts/chaos-sabotage.sh

.PHONY: chaos-short
chaos-short: ## ten short seeds with fewer clients, as in make test
	@$(STAGE) setup scripts/setup.sh apt tools node kafka
	@cargo nextest run --locked --workspace --retries 0 -E 'test(short_chaos)'

# The last stage of `make test` alone, on whatever machine: as root, which a kubelet needs. HPA=1 is another test, in a cluster that
# has metrics-server, whose build takes minutes more the first time; `make test` has neither.
unexport HPA
CLUSTER_PARTS := kubernetes cluster $(if $(filter 1,$(HPA)),metrics)
CLUSTER_TEST := $(if $(filter 1,$(HPA)),autoscaling_cluster,real_cluster)
.PHONY: cluster-test
cluster-test: ## run and break all of it in a real Kubernetes cluster of one node, from helm install to uninstall (as root; HPA=1: scale it by CPU)
	@$(STAGE) setup scripts/setup.sh apt tools node kafka
	@mkdir -p "$(ALDIS_CACHE)" && { nice scripts/setup.sh $(CLUSTER_PARTS) >"$(ALDIS_CACHE)/cluster.log" 2>&1 & }
	@$(STAGE) build-tests cargo nextest run --locked --workspace --no-run
	@$(STAGE) kubernetes scripts/setup.sh $(CLUSTER_PARTS)
	@$(STAGE) cluster-test env HPA="$(HPA)" scripts/with-cluster.sh cargo nextest run --locked --workspace --run-ignored only -E 'test($(CLUSTER_TEST))' --no-capture

.PHONY: images
images: ## build both images by buildah, as archives in IMAGES (default: images below the cache), and compare them with image.py's
	@scripts/setup.sh apt buildah
	@scripts/images.sh $(or $(IMAGES),$(ALDIS_CACHE)/images) $(PROFILE)

.PHONY: upgrade-test
upgrade-test: ## upgrade a real cluster from the first packaged charts to today's and roll back, under load (as root; builds both)
	@$(STAGE) setup scripts/setup.sh apt tools node kafka kubernetes cluster
	@$(STAGE) upgrade-test scripts/upgrade-test.sh

.PHONY: structure
structure: ## check sizes, purity, dead files, dependencies between crates and docs/parity.md (takes a second)
	@python3 scripts/check-structure.py --self-test
	@python3 scripts/check-structure.py
	@python3 scripts/check-parity.py --self-test
	@python3 scripts/check-parity.py

.PHONY: operator-bench
operator-bench: ## measure what a change costs the operator, against a real API server
	@cargo nextest run --locked --workspace --run-ignored only --no-capture -E 'package(aldis-controller) & test(/^scale::/)'

.PHONY: bench
bench: ## measure the gateway, optimised (BENCH_ARGS=... is passed on)
	@scripts/setup.sh apt kafka
	@cargo build --locked --profile bench --bin aldis --bin aldis-bench
	@cargo run --quiet --locked --profile bench --bin aldis-bench -- $(BENCH_ARGS)

.PHONY: audit
audit: ## check the dependencies against the list of known vulnerabilities (needs the network)
	@scripts/setup.sh tools
	@cargo deny check advisories

.PHONY: fmt
fmt: ## format all Rust code
	@cargo fmt --all

.PHONY: crds
crds: ## write the CRDs of charts/aldis-crds and docs/reference.md anew from the Rust types
	@mkdir -p charts/aldis-crds/templates
	@for plural in $(CRDS); do \
	  file=charts/aldis-crds/templates/$$plural.yaml; \
	  cargo run --quiet --bin crdgen $$plural >$$file.new || { rm -f $$file.new; exit 1; }; \
	  mv $$file.new $$file; \
	  echo "wrote $$file"; \
	done
	@cargo run --quiet --bin crdgen reference >docs/reference.md.new && mv docs/reference.md.new docs/reference.md
	@echo "wrote docs/reference.md"

.PHONY: clean-cache
clean-cache: ## remove all that was downloaded and built
	rm -rf "$(ALDIS_CACHE)"/{tools,node,kafka,kubernetes,cluster,metrics,target}
