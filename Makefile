# A thin front to CMake (CMakePresets.json) and scripts/. `make` shows what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PREFIX ?= /usr/local
BUILD := build/release

.PHONY: scale sim soak help bootstrap test-bootstrap build demo experiments results pictures check test browser torture fuzz bench lint format chart images e2e install clean

help: ## show this
	@echo "Throughline: training that goes on through the death of its parameter servers"
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test-bootstrap:
	@scripts/bootstrap s3proxy kafka

bootstrap: ## install what is missing (Debian and Ubuntu packages; says what)
	@scripts/bootstrap

build: bootstrap ## compile everything into build/release
	@scripts/build release

demo: build ## train on real images through two SIGKILLs of the server
	@scripts/demo

experiments: build ## the paper's runs, in short: a report in under 15 minutes
	@scripts/experiments

results: build ## the paper's runs in full, into docs/results.md: 80 minutes
	@scripts/results

pictures: build ## docs/dashboard.png and docs/comparison.png, from real runs
	@scripts/bootstrap browser
	@scripts/pictures

check: test-bootstrap ## unit tests: the inner loop, under a minute once built
	@scripts/test release unit

test: test-bootstrap ## every test: units, then real processes killed for real
	@scripts/test release

browser: test-bootstrap ## the dashboard in a real browser, the metrics in a real Prometheus
	@scripts/bootstrap browser
	@scripts/test release browser

torture: build ## 500 random faults in one run of a job; TL_TEST_SEED=N repeats it
	@TL_TEST_SEED=$(TL_TEST_SEED) TL_TORTURE_FAULTS=500 $(BUILD)/tests/integration_torture

soak: build test-bootstrap ## thousands of servers and replicas killed, replicas frozen; TL_SOAK_KILLS=N, TL_TEST_SEED=N
	@TL_TEST_SEED=$(TL_TEST_SEED) TL_SOAK_KILLS=$(or $(TL_SOAK_KILLS),2000) TL_OUTAGE_SECONDS=20 \
	    $(BUILD)/tests/integration_stateless
	@TL_TEST_SEED=$(TL_TEST_SEED) TL_SOAK_KILLS=$(or $(TL_SOAK_KILLS),1000) TL_SOAK_FREEZES=50 \
	    $(BUILD)/tests/integration_chain

fuzz: ## throw bytes at every decoder for FUZZ_SECONDS each (60), two at a time
	@scripts/bootstrap lint
	@scripts/fuzz

scale: build ## measure what a job costs as it grows, into docs/results.md: 10 minutes
	@scripts/scale

bench: build test-bootstrap ## measure; each line has a ratio, its reference and a verdict
	@scripts/bench

lint: ## format, clang-tidy, headers alone, shellcheck
	@scripts/bootstrap lint
	@scripts/lint

format: ## rewrite our C files in the house format
	@scripts/bootstrap lint
	@scripts/format

chart: ## check the chart and the chaos manifests, without a cluster
	@scripts/chart

images: ## build the container images, throughline/SERVICE:VERSION, and bring them to kind, minikube or, with LOAD, others
	@scripts/images

e2e: ## on the cluster of KUBECONFIG: install, train, kill, verify, upgrade, uninstall
	@tests/e2e/run

sim: build ## millions of simulated schedules: SIM_RUNS=5000000 SIM_SEED=1
	@$(BUILD)/tests/simulator --runs $(or $(SIM_RUNS),5000000) --seed $(or $(SIM_SEED),1)

install: build ## install programs, headers and library; PREFIX=/usr/local DESTDIR=
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## remove what was built
	@rm -rf build/release build/debug build/asan build/tsan build/fuzz build/fuzz.log
