# pxrun: what developers and CI run. `make help` lists the targets.

GO      ?= go
VERSION ?=
LDFLAGS := -s -w $(if $(VERSION),-X github.com/pxrun/pxrun/cli.Version=$(VERSION))
FUZZTIME ?= 10s
TESTFLAGS ?=
# The race detector needs a C compiler.
RACE := $(if $(shell command -v gcc),-race)

.DEFAULT_GOAL := help
.PHONY: help build test race lint fmt fuzz lab docs generate verify cover bench e2e demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9_-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the binary ./pxrun
	CGO_ENABLED=0 $(GO) build -ldflags '$(LDFLAGS)' -o pxrun .

test: ## run all tests, with the race detector where there is a C compiler
	$(GO) test $(RACE) -parallel 4 -timeout 12m $(TESTFLAGS) ./...
	$(if $(RACE),$(GO) test -timeout 12m $(TESTFLAGS) ./rollingtest)
	$(if $(RACE),$(GO) test -timeout 12m $(TESTFLAGS) -run 'TwoRoundTrips/3_nodes|AtADistance' ./cli)

race: test ## the same as test: the race detector is always on

lint: ## check formatting and suspicious code
	@unformatted=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); \
	  if [ -n "$$unformatted" ]; then echo "not formatted:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo "golangci-lint is not installed; skipped"; fi

fmt: ## format the Go and HCL files
	gofmt -w $$($(GO) list -f '{{.Dir}}' ./...)
	$(GO) run . fmt examples

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
	    echo "$$package $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
	  done; \
	done

lab: build ## serve the simulated cluster of the example until interrupted
	./pxrun lab up -i examples/three-nodes

docs: generate ## the same as generate

generate: ## write the reference pages that come from the code
	$(GO) generate ./...
	$(GO) test ./cli -run TestReference -update

verify: generate ## check that generated files, formatting and dependencies are current
	$(GO) run . fmt --check examples
	$(GO) mod verify
	git diff --exit-code

cover: ## show the coverage of each package
	$(GO) test -coverprofile=cover.prof ./...
	$(GO) tool cover -func=cover.prof | tail -n 1

bench: build ## measure pxrun against plain SSH clients on this machine
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run ./bench

e2e: ## tests against real sshd and Debian in network namespaces; needs root
	$(GO) test $(RACE) -count=1 -timeout 10m -tags e2e $(TESTFLAGS) ./e2e/...

demo: build ## three fresh nodes become a cluster, in a simulated lab
	@./examples/demo.sh

clean: ## remove what the targets made
	rm -f pxrun cover.prof
