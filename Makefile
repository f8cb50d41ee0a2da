# Shims for the targets that people type. make itself exits 2 for every
# failure; `go tool mage TARGET` keeps the exit codes 1, 2 and 75.

MAGE := go tool mage

# The first time, compiling what the targets need takes minutes, of which Mage
# would say nothing: name each package as it is done. Afterwards this is quick
# and silent.
COMPILED := go build -v ./tools/pipeline

.DEFAULT_GOAL := help
.PHONY: help setup doctor test unit lint test-e2e test-e2e-aianalysis build-hapi cluster-up teardown bench chaos

help: ## List the targets
	@$(MAGE) -l

setup: ## Make this host able to run the rest
	@$(COMPILED)
	@$(MAGE) setup

doctor: ## Check host, engine, ports and leftovers
	@$(COMPILED)
	@$(MAGE) doctor

test: ## Every test, those on a real engine too
	@$(COMPILED)
	@$(MAGE) test

unit: ## The fast tests
	@$(COMPILED)
	@$(MAGE) unit

lint: ## The linters
	@$(COMPILED)
	@$(MAGE) lint

test-e2e: ## Every E2E suite
	@$(COMPILED)
	@$(MAGE) e2e

test-e2e-aianalysis: ## The AIAnalysis suite, from host set-up to verdict
	@$(COMPILED)
	@$(MAGE) e2e:aianalysis

build-hapi: ## The HAPI image
	@$(COMPILED)
	@$(MAGE) buildHAPI

cluster-up: ## The suite's Kind cluster
	@$(COMPILED)
	@$(MAGE) clusterUp

teardown: ## Remove what this project made
	@$(COMPILED)
	@$(MAGE) teardown

bench: ## The measurements
	@$(COMPILED)
	@$(MAGE) bench

chaos: ## The fault matrix
	@$(COMPILED)
	@$(MAGE) chaos
