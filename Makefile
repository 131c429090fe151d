# What a developer of roost needs, one word each. `make help` lists it; longer steps live in scripts/.

SHELL := bash
.DEFAULT_GOAL := help

.PHONY: help build run test conformance lint fmt docs vendor fuzz loadtest profile bench million ktls-guest soak clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## static bin/roost and bin/roost-load
	@scripts/build.sh

run: build ## start the gateway for development and print the address of its page (ADDRESS=127.0.0.1:8000)
	@scripts/run.sh

test: ## everything: lint, unit, race, fuzz, benchmarks module, cross builds, browser (CI=true: no step may be skipped)
	@scripts/test.sh

conformance: ## all Autobahn server cases with the original's 1,000 messages, and the hostile inputs, on both echo routes
	@scripts/conformance.sh

lint: ## gofmt, go vet, staticcheck, room table and size limits
	@scripts/lint.sh

fmt: ## format all Go files
	@gofmt -w .

docs: ## write docs/configuration.md and docs/metrics.md from the code
	@go test ./internal/config -run '^TestPage$$' -count=1 -update
	@go test ./cmd/roost -run '^TestMetricsPage$$' -count=1 -update

vendor: ## take the browser SDK of the page anew from the lock file in web/test
	@npm --prefix web/test ci --no-audit --no-fund && npm --prefix web/test run sdk && npm --prefix web/test run vendor

fuzz: ## fuzz each target in turn (FUZZ_TIME=30s each)
	@scripts/fuzz.sh

loadtest: build ## load a fresh gateway and write out/loadtest.html (CONNECTIONS=, DURATION=)
	@scripts/loadtest.sh

profile: build ## CPU and heap profiles under load, their tops printed, files in out/
	@scripts/profile.sh

bench: ## roost beside its peers, side by side; writes benchmarks/results (ARGS=--quick)
	@scripts/bench.sh $(ARGS)

million: ## a million idle connections on one process (minutes; ARGS=--help)
	@benchmarks/million/run.sh $(ARGS)

ktls-guest: ## tests of kernel TLS in a QEMU guest whose kernel has it (TESTS=, TIMEOUT=)
	@scripts/ktls-guest.sh

soak: build ## connections that come and go under load (DURATION=10m)
	@scripts/soak.sh

clean: ## remove what the targets above produced
	@rm -rf bin out benchmarks/.work web/test/node_modules
