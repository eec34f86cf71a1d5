# The two commands of a newcomer: `make run` and `make test`. Everything else is for developers.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench

# What `make run` runs, unless EVENTFLEET_DOMAINS names domains of your own.
SAMPLE_DOMAINS := eventfleet.domains.orders,eventfleet.domains.bank,eventfleet.domains.trading,eventfleet.domains.cart,eventfleet.domains.game,eventfleet.domains.process_log,examples.chat

.PHONY: run test check check-python faults late-requests bench metrics-cost scale rehearse-scaling soak chat callers feeds document-growth file-growth audit-memory \
	check-image check-install check-cluster check-monitoring lock clean

run: export EVENTFLEET_DOMAINS ?= $(SAMPLE_DOMAINS)
run: export EVENTFLEET_HTTP_OPERATIONS ?= examples.chat.rooms
run: $(VENV)/run.stamp
	@$(BIN)/python -m eventfleet.cli run

# Hundreds of processes are started, which would each compile what they import.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m tests.deploy.install
	@$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

# The unit and contract tests on another Python, in an environment of its own: PYTHON=python3.13
check-python: ENVIRONMENT = .venv-$(notdir $(PYTHON))
check-python:
	@$(MAKE) --no-print-directory VENV=$(ENVIRONMENT) $(ENVIRONMENT)/dev.stamp
	@$(ENVIRONMENT)/bin/python -m tests.servers.install
	@$(ENVIRONMENT)/bin/python -m pytest --numprocesses 2 --dist loadfile tests/unit tests/contract

# Simulated schedules, and counted fault runs on real servers: some hours.
# OUTAGE_SECONDS=120, OUTAGE_RATE=300 (events a second): of tests/faults/test_outages.py.
# COUNT=3 (20 for the whole run): of tests/faults/test_many_outages.py.
# SECONDS=10 (of load behind each step): of tests/faults/test_rollout.py.
faults: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.servers.install
	@SCHEDULES=100000 $(BIN)/python -m pytest --timeout 36000 \
		tests/simulation/test_schedules.py tests/simulation/test_marker.py tests/simulation/test_fleet.py \
		tests/simulation/test_projections.py
	@$(BIN)/python -m pytest -s -m faults --timeout 3600 tests/faults

# SEEDS=200 of each role, BATCH=20 at once: late and lost requests of transactions, half an hour.
late-requests: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m pytest -s -m faults --timeout 3600 tests/faults/test_late_requests.py

# From an empty environment to a first command that a kill does not lose: PYTHONS="python3.12 python3.13".
check-install: $(VENV)/run.stamp
	@$(BIN)/python -m tests.deploy.check_install $(PYTHONS)

# What the Helm chart renders, on a Kubernetes API server; builds it once, which takes minutes.
check-cluster: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.cluster.install
	@$(BIN)/python -m pytest -m cluster --timeout 3600 tests/cluster

# SHORT=1, SCENARIOS=append,relay, JSON=file, CHART=file, SCRAPE=1 (our metrics, each second).
# KAFKA, MONGO_URL, REDIS_URL: servers to use.
bench: $(BENCH)/stamp
	@$(BENCH)/bin/python -m tests.servers.install
	@$(BENCH)/bin/python -m benchmarks

# The share of metrics in a chunk's CPU; SHORT=1, and the same servers as above.
metrics-cost: $(BENCH)/stamp
	@$(BENCH)/bin/python -m tests.servers.install
	@$(BENCH)/bin/python -m benchmarks.metrics_cost

# EVENTS=100000, ROLES=append,snapshot,relay,command, WORKERS=1,2,4, CHUNK_RECORDS=2000; eight partitions.
scale: $(BENCH)/stamp
	@$(BENCH)/bin/python -m tests.servers.install
	@$(BENCH)/bin/python -m benchmarks.scale

# Worker processes scaled by lag while the load steps up and down; nine minutes.
# PARTITIONS=8, STEP_SECONDS=90, RATES=10,40,70,20,4 (commands a second),
# ROLES=command,append,snapshot,relay; the same servers as above.
rehearse-scaling: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m benchmarks.autoscale

# MINUTES=30 (at least 6), RATE=200 (commands a second); the same servers as above.
soak: $(BENCH)/stamp
	@$(BENCH)/bin/python -m tests.servers.install
	@$(BENCH)/bin/python -m benchmarks.soak

# CLIENTS=500, ROOMS=50, RATE=100 (messages a second), SECONDS=300: chat rooms with reconnects and a
# kill, beside a bare Redis relay; the same servers as above.
chat: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m benchmarks.chat

# SECONDS=20: a token's commands at rest, and beside another token that takes all it is let of waits,
# slow streams and sockets; the same servers as above.
callers: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m benchmarks.callers

# Live feeds beside a bare stream: CLIENTS=1200, RATE=10 (events a second), SECONDS=20.
feeds: $(VENV)/dev.stamp
	@$(BIN)/python -m benchmarks.feeds

# DOCUMENTS=100000, CALLS=1000: documents and queries by size, and edits by callers beside a bare
# transaction; the same servers as above.
document-growth: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m benchmarks.document_growth

# EVENTS=2000000, CALLS=500: calls on a fleet's file of many events beside a small one, and the file's
# bytes; some minutes, without servers. TMPDIR names the disk.
file-growth: $(VENV)/dev.stamp
	@$(BIN)/python -m benchmarks.file_growth

# EVENTS=5000000; generated, so it needs no servers.
audit-memory: $(VENV)/dev.stamp
	@$(BIN)/python -m benchmarks.audit_memory

# Prometheus (Debian's) scrapes a fleet under load with faults: 10 minutes, or MINUTES=2 to try it.
check-monitoring: $(BENCH)/stamp
	@$(BENCH)/bin/python -m tests.servers.install
	@$(BENCH)/bin/python -m tests.deploy.install
	@$(BENCH)/bin/python -m pytest -s -m monitoring --timeout 3600 tests/monitoring

# Builds the image on a Debian base, runs it, and runs compose.yaml's services in it. Debian, as root.
check-image: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m tests.deploy.install
	@$(BIN)/python -m tests.deploy.check_image

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The environment holds just what the lock files name, hash by hash.
$(VENV)/run.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing from requirements.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	@echo "installing from requirements-dev.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# A separate environment: the benchmarks' peers require other versions of some libraries.
$(BENCH)/stamp: requirements-bench.lock pyproject.toml
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	@echo "installing from requirements-bench.lock"
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Needs uv. The files name no index.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --extra build pyproject.toml -o requirements.lock --quiet
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --extra build --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock --quiet
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --extra build --extra dev --extra bench pyproject.toml -o requirements-bench.lock --quiet

clean:
	rm -rf $(VENV) $(BENCH) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
