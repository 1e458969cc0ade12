# The same commands for people and for CI. `make` alone lists them.

.PHONY: help monitoring packaging setup versions build demo test page sim fuzz properties lint docs bench matrix tools histories readonly chaos loadtest backfill callgrind kills schemathesis

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

setup: ## Install what building and testing need and this machine lacks
	@.ci/setup

versions: ## Fetch newer Postgres versions for the tests, where npm is there
	@.ci/versions

build: setup ## Build the release binary
	cargo build --release --locked

demo: build ## Hold, drain, migrate and reopen on a throw-away Postgres (ARGS=--keep leaves it running)
	cargo run --release --locked --quiet -- demo $(ARGS)

test: setup ## Run every test (TEST_TIMEOUT=seconds, ARGS=name of a test)
	@.ci/setup strace || echo "test: without strace the tests of lost threads are skipped"
	.ci/test $(ARGS)

page: setup ## Drive the dashboard in a headless Chromium (ARGS=part of a name, or --screenshot docs/dashboard.png)
	@.ci/setup chromium chromedriver=chromium-driver
	cargo build --locked --bin pgdrain
	python3 tests/page/run.py $(ARGS)

sim: ## Simulate by seeds, a million or as many as fit (SEEDS=number, SIM_TIME=seconds, FIRST=seed)
	cargo test --locked --test sim faults
	SIM_FIRST=$(or $(FIRST),0) SIM_SEEDS=$(or $(SEEDS),1000000) SIM_TIME=$(or $(SIM_TIME),3600) \
		cargo test --release --locked --test sim seeds -- --nocapture

fuzz: ## Fuzz the wire protocol, 10 minutes a target (FUZZ_TIME=seconds, TARGET=name of one)
	@.ci/fuzz

properties: ## Try pure code on many random inputs (CASES=number for each property)
	PROPTEST_CASES=$(or $(CASES),20000) cargo test --locked --lib

lint: ## Check format and lints
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --all-targets --locked -- -D warnings

docs: ## Build the documentation of every item, private ones too
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --locked --document-private-items

monitoring: ## Check the examples for Prometheus and Grafana, and that each alert fires when it should
	@.ci/monitoring

packaging: ## Check the examples for systemd, Kubernetes and Compose, and the Dockerfile, by the tools of each
	@.ci/packaging

bench: setup ## Run the benchmarks (ARGS=part of a name)
	cargo bench --locked --bench hot_path --bench round_trip -- $(ARGS)

matrix: setup versions ## Run every driver over every transport, and write docs/matrix.md (QUICK=1: one Postgres)
	matrix/setup
	python3 matrix/run.py $(ARGS)

tools: setup ## Run migration tools in windows under load: psql, Alembic, Django, Rails, node-pg-migrate, sqlx, JDBC (ARGS=part of a name)
	matrix/tools/setup
	python3 matrix/tools/run.py $(ARGS)

histories: setup ## Let sqlx and dbmate themselves read the history that pgdrain writes back, and it theirs
	matrix/tools/setup
	matrix/tools/histories

readonly: setup ## Put SQLAlchemy, Django, psycopg, node-postgres and pgbench through 20 read-only periods (READ_ONLY_PERIODS=)
	matrix/read_only/setup
	python3 matrix/read_only/run.py

chaos: setup ## Open 200 windows under load and kill clients, backends, the runner and the proxy (CHAOS_WINDOWS=, CHAOS_SEED=)
	CHAOS_WINDOWS=$${CHAOS_WINDOWS:-200} .ci/test windows_under_kills

kills: setup ## Kill the command, the runner's backend, the proxy and Postgres at each step of two migrations
	KILL_ALL=1 .ci/test known_state_everywhere

backfill: setup ## Backfill 10 000 000 rows under load, stopped once, some 8 minutes (ARGS="--rows 200000 --calm 5")
	python3 loadtest/backfill.py $(ARGS)

loadtest: setup ## Measure pgdrain beside PgBouncer, HAProxy and a byte pump, 20 minutes (QUICK=1: two; ARGS=--rounds 7)
	loadtest/setup
	$${CARGO_TARGET_DIR:-target}/loadtest/venv/bin/python loadtest/run.py $(ARGS)

schemathesis: setup ## Ask the admin HTTP whatever its OpenAPI document allows, two minutes (SCHEMATHESIS_TIME=seconds, SCHEMATHESIS_SEED=number)
	matrix/http/setup
	python3 matrix/http/run.py $(ARGS)

callgrind: ## Count the instructions of a transaction (BOUND=number fails above it; ARGS=--no-workers needs no Postgres)
	@.ci/setup valgrind
	python3 loadtest/callgrind/count.py $(if $(BOUND),--bound $(BOUND)) $(ARGS)
