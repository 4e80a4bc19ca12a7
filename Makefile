# Two commands for newcomers: `make lab` and `make test`. Both install what is missing, saying so.

CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env "PATH=$$PATH")
RELEASE := $(shell $(CARGO) metadata --no-deps --format-version 1 2>/dev/null | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/$(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')/release
NEXTEST := $(SUDO) $(CARGO) nextest run --workspace --no-fail-fast

.PHONY: lab lab-down build image test tier0 tier1 tier2 tier3 e2e-kubernetes e2e-join bench check deps test-deps help

help: ## What there is
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1: \2/p' $(MAKEFILE_LIST) | column -t -s:

lab: build ## A cluster on this machine: control plane, three nodes, network, test pods
	$(SUDO) $(RELEASE)/malha lab up $(LAB)

lab-down: ## End the lab
	$(SUDO) $(RELEASE)/malha lab down

build: deps ## Release programs
	$(CARGO) build --release -p malha -p malha-plugin

image: build ## An image archive of the release programs, target/malha-image.tar
	$(CARGO) run --quiet --release -p malha-image -- --malha $(RELEASE)/malha --output target/malha-image.tar

test: tier0 tier1 tier2 tier3 ## Every test, tiers 0 to 3

tier0: test-deps ## Pure tests: no privileges
	$(NEXTEST) --lib --bins -E 'kind(lib) + kind(bin)'
	$(NEXTEST) -E 'kind(test) & binary(/^tier0/)'

tier1: test-deps ## Network namespaces: netlink, CNI, joins, real kubectl
	$(NEXTEST) -E 'binary(/^tier1/)'

tier2: test-deps ## The eBPF datapath
	$(NEXTEST) -E 'binary(/^tier2/)'

tier3: test-deps build ## The lab: the whole story, with faults
	MALHA_BINARIES=$(RELEASE) $(NEXTEST) -E 'binary(/^tier3/)'

e2e-kubernetes: test-deps build ## Tests against a real Kubernetes: one of yours (docs/e2e.md), or one brought up here
	$(CARGO) build --release -p malha-image
	MALHA_BINARIES=$(RELEASE) $(SUDO) tools/e2e-realk8s run $(E2E)
	$(if $(E2E),,$(MAKE) e2e-join)

e2e-join: test-deps build ## Joins in place of kubeadm's, on a control plane that real kubeadm makes here
	MALHA_BINARIES=$(RELEASE) $(SUDO) $(CARGO) nextest run -p malha-peer --no-fail-fast -j 1 -E 'binary(/^tier4/)'

bench: test-deps build ## Measurements beside their baselines
	tools/install-packages containerd runc libc6-dev
	$(CARGO) build --release -p malha-bench
	$(SUDO) $(RELEASE)/malha-bench $(BENCH)

check: deps ## Formatting, lints, layers, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	tools/layers
	tools/manifest --check
	tools/install-cargo-tool cargo-deny
	$(CARGO) deny check licenses bans sources

deps:
	tools/install-packages clang make gcc

test-deps: deps
	tools/install-packages iproute2 iputils-ping nftables conntrack iperf3 iptables netcat-openbsd openssl containernetworking-plugins
	tools/install-cargo-tool cargo-nextest
	tools/helm >/dev/null
