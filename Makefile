# pgctrl: make help prints what there is.

SHELL      := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
MODULE  := github.com/pgctrl/pgctrl
# Without gRPC's trace pages the linker can leave out methods that nobody calls: a
# sixth of pgagent, most of which is memory on every host.
TAGS    := grpcnotrace
LDFLAGS := -s -w -X $(MODULE)/pkg/version.Version=$(VERSION)
# Real hosts have targets of their own; everything else is a unit test.
UNIT    := $(shell go list ./... 2>/dev/null | grep -v -e /tests/lab -e /tests/e2e -e /tests/second -e /tests/bench -e /tests/simulation)

# Tests on real hosts that need programs which Debian has not.
SECOND  := ^(TestLogs|TestS3)

export CGO_ENABLED ?= 0

comma := ,
step = @printf '\n\033[1m== %s\033[0m  (%s)\n' "$(1)" "$$(date +%T)"

.PHONY: help
help: ## print this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build pgctrl and pgagent into bin/, static and version stamped
	go build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o bin/pgctrl ./cmd/pgctrl
	go build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o bin/pgagent ./cmd/pgagent

.PHONY: demo
demo: build ## boot four real hosts and run a cluster on them: the whole tour in a few minutes
	@go run ./tests/demo

.PHONY: demo-stop
demo-stop: ## stop the demo and remove everything it made
	@go run ./tests/lab down

# What the second stage needs is built beside the tests on hosts, which mostly wait; a build
# that fails says so when that stage wants it.
.PHONY: test
test: ## everything CI runs: linters, unit tests, then real hosts
	@started=$$(date +%s); \
	$(MAKE) --no-print-directory host-packages lint test-unit test-sim; \
	(nice -n 19 go run ./tests/lab second >/dev/null 2>&1 || true) & \
	$(MAKE) --no-print-directory test-lab test-second; \
	printf '\nall of make test took %s s\n' "$$(( $$(date +%s) - started ))"

.PHONY: host-packages
host-packages: ## install the Debian packages that building and testing need
	$(call step,packages this machine needs)
	@./tests/host-packages.sh

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, generated files current
	$(call step,linters)
	@out=$$(gofmt -l cmd configs internal pkg tests); if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi
	go vet ./...
	@go -C tools build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...
	@$(MAKE) --no-print-directory generate-check

.PHONY: test-unit
test-unit: ## unit tests, conformance suites, goldens that the real programs accept
	$(call step,unit tests)
	go test -count=1 -timeout 10m $(UNIT)

.PHONY: test-sim
test-sim: ## simulation in fake time: faults from 300 seeds, rules checked at every step
	$(call step,simulation)
	go test -count=1 -timeout 20m ./tests/simulation

.PHONY: test-race
test-race: ## the unit tests under the race detector (needs gcc)
	CGO_ENABLED=1 go test -race -count=1 -timeout 20m $(UNIT)

.PHONY: test-lab
test-lab: build ## tests on real hosts under systemd
	$(call step,real hosts: the lab)
	go test -count=1 -timeout 10m -v ./tests/lab/...
	$(call step,real hosts: behaviour and rules$(comma) in two labs at once)
	tests/shards.sh 2 skip '$(SECOND)'

.PHONY: test-second
test-second: build ## the second stage: what needs Loki or MinIO, built from source once (15 minutes) and cached
	@started=$$(date +%s); \
	go run ./tests/lab second && \
	go test -count=1 -timeout 10m -v ./tests/second/... && \
	tests/shards.sh 2 run '$(SECOND)' && \
	printf '\nthe second stage took %s s\n' "$$(( $$(date +%s) - started ))"

.PHONY: mutants
mutants: ## break each rule on purpose and see its test fail
	go run ./tests/mutants

.PHONY: bench
bench: build ## the figures of the README, measured beside the alternatives
	go run ./tests/bench
	go run ./tests/bench/scale
	go test -run '^$$' -bench . -benchtime 1s ./pkg/engine/... ./pkg/store/...
	go test -run '^$$' -bench . -benchtime 1000x ./pkg/eventlog ./pkg/delivery

.PHONY: bench-scale
bench-scale: build ## the part of bench that needs no hosts: a server on 5,000 clusters
	go run ./tests/bench/scale

.PHONY: chaos
chaos: build ## moves, kills and reboots under the eyes of every kernel: two holders and flaps of the address
	go run ./tests/chaos

.PHONY: generate
generate: ## write the generated files: JSON schemas and the pages made from the code
	go generate ./...

# By content, so that it says the same in a tree with changes in it.
.PHONY: generate-check
generate-check: ## fail when a generated file is not current; writes it
	@sums() { find configs docs -type f -print0 | sort -z | xargs -0 sha256sum; }; \
	before=$$(sums); go generate ./...; \
	if ! changed=$$(diff <(echo "$$before") <(sums)); then \
		echo "these were not current and are now; commit them:"; sed -n 's/^> [0-9a-f]*  /  /p' <<<"$$changed"; exit 1; fi

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
