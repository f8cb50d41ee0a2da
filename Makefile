# Shims for the targets that people type. make itself exits 2 for every
# failure; `go tool mage TARGET` keeps the exit codes 1, 2 and 75.

# The first time, compiling what the targets need takes minutes, of which Mage
# would say nothing: name each package as it is done. Afterwards that is quick
# and silent. The targets' own program takes the shell's place, because `go tool`
# reports success for a tool that a signal ended (golang/go#79540), and neither
# it nor Mage would wait for the run to clean up.
MAGE := go build -v ./tools/pipeline && go tool mage -compile "$(CURDIR)/bin/targets" && exec bin/targets

.DEFAULT_GOAL := help
.PHONY: help setup doctor test unit lint test-e2e test-e2e-aianalysis build-hapi cluster-up teardown bench chaos

help: ## List the targets
	@$(MAGE) -l

setup: ## Make this host able to run the rest
	@$(MAGE) setup

doctor: ## Check host, engine, ports and leftovers
	@$(MAGE) doctor

test: ## Every test, those on a real engine too
	@$(MAGE) test

unit: ## The fast tests
	@$(MAGE) unit

lint: ## The linters
	@$(MAGE) lint

test-e2e: ## Every E2E suite
	@$(MAGE) e2e

test-e2e-aianalysis: ## The AIAnalysis suite, from host set-up to verdict
	@$(MAGE) e2e:aianalysis

build-hapi: ## The HAPI image
	@$(MAGE) buildHAPI

cluster-up: ## The suite's Kind cluster
	@$(MAGE) clusterUp

teardown: ## Remove what this project made
	@$(MAGE) teardown

bench: ## The measurements
	@$(MAGE) bench

chaos: ## The fault matrix
	@$(MAGE) chaos
