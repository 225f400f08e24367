# Each target makes its own environment first, from `python3` (3.11 or newer); nothing else needs to be set up.
# Nothing is installed or written outside of this folder: that is for .ci/run, which prepares the machine.
# Another Python: make test PYTHON=/usr/bin/python3.12
# Another folder: make test VENV=/tmp/allcores-venv

VENV ?= .venv
PYTHON ?=
RUN := $(VENV)/bin/python
export PYTHON
# an advertisement that every build would print
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo web chat test exams portable races quick lint check coverage format bench docs clean

help:
	@echo "make demo      measure modules of the standard library on all cores; says how long, about a minute (ARGS=--whole: every one)"
	@echo "make web       heavy work behind a web page: four tasks, a console, live progress; prints its address (Ctrl-C ends it)"
	@echo "make chat      a small chatbot in the browser, on a warm pool; prints its address (Ctrl-C ends it)"
	@echo "make test      the test suite, in several processes (ARGS='-k name' to choose, ARGS='-n 0' for one process)"
	@echo "make exams     other libraries' own tests, asked of our drop-ins, with each start method: some minutes"
	@echo "make portable  the contract of all backends, with nothing used that only Linux has"
	@echo "make races     tests of pools, jobs and runs, with random pauses in our code on all threads: some minutes"
	@echo "make quick     its quick part, in less than a minute: after each change"
	@echo "make lint      ruff, mypy --strict, and the site built strictly"
	@echo "make check     make lint, and the tests of the docs, whose examples are run"
	@echo "make coverage  what the tests of units, contracts, jobs and pages run of the library, also in workers; there is a floor (quickest on 3.12 and newer)"
	@echo "make format    let ruff lay out the code"
	@echo "make bench     allcores beside its peers; writes docs/benchmarks.md"
	@echo "make docs      the documentation, into site/"

demo:
	@.ci/venv $(VENV) cli
	@$(RUN) examples/standard_library.py $(ARGS)

web:
	@.ci/venv $(VENV) web-demo
	@cd examples/jobs && $(abspath $(RUN)) -m allcores serve tasks.py --app app.py:app --store $(abspath $(VENV))/web-demo.sqlite $(ARGS)

# The models that are made once, and the vectors of what the bot knows, are kept beside the environment.
chat:
	@.ci/venv $(VENV) chat-demo
	@ALLCORES_HOME=$(abspath $(VENV))/chat $(RUN) examples/chat/chat.py $(ARGS)

test:
	@.ci/venv $(VENV) dev
	@$(RUN) -m pytest -n auto --dist worksteal --ignore tests/docs $(ARGS)

exams:
	@.ci/venv $(VENV) dev
	@ALLCORES_EXAMS=1 $(RUN) -m pytest -n auto --dist worksteal tests/exams $(ARGS)

# what other systems get, run here: see docs/platforms.md
portable:
	@.ci/venv $(VENV) dev
	@ALLCORES_PORTABLE=1 $(RUN) -m pytest -q -p no:cacheprovider -n auto --dist worksteal -k "not dask and not ray" \
	    tests/contract/backends tests/process/test_crimes.py $(ARGS)

# Each of these may be run again: what pauses, and for how long, is another time another thing.
# ALLCORES_PAUSES_CHILDREN=0.02 make races: also in workers and all other processes that tests start.
races:
	@.ci/venv $(VENV) dev
	@$(RUN) -m pytest -q -p no:cacheprovider -p tests.random_pauses -n auto --dist worksteal -k "not dask and not ray" \
	    --ignore tests/process/profiling --ignore tests/process/test_advice.py --ignore tests/unit/advisor tests/unit tests/contract tests/process $(ARGS)

quick:
	@.ci/venv $(VENV) dev
	@$(RUN) -m pytest -n auto --dist worksteal -m quick $(ARGS)

lint:
	@.ci/venv $(VENV) dev
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check --quiet . || { echo "Lines are not laid out as ruff does: make format"; exit 1; }
	@$(RUN) -m mypy
	@$(RUN) -m mkdocs build --strict --quiet --site-dir $(VENV)/site

check: lint
	@$(RUN) -m pytest -q -n auto --dist worksteal tests/docs

# what `make coverage` runs besides tests/unit and tests/contract: the quickest tests that go through each room
COVERED := tests/process/jobs $(wildcard tests/process/profiling) \
    $(wildcard tests/process/test_advi*.py tests/process/test_executor*.py tests/process/test_web_*.py) \
    tests/process/test_drop_in_pool.py tests/process/test_joblib.py tests/process/test_cluster_losses.py \
    $(filter-out %/test_workers.py,$(wildcard tests/nlp/test_*.py))

coverage:
	@.ci/venv $(VENV) dev
	@rm -rf .coverage
	@$(RUN) -m coverage run -m pytest -q -p no:cacheprovider -n auto --dist worksteal tests/unit tests/contract $(ARGS)
	@# These look at real programs, and counting slows all of them down: whether they pass, `make test` says.
	@$(RUN) -m coverage run -m pytest -q -p no:cacheprovider -n auto --dist worksteal $(COVERED) $(ARGS) || [ $$? = 1 ]
	@# A process that was killed as it saved leaves a file that is none: what it ran is not counted.
	@$(RUN) -W "ignore:Data file" -W "ignore:Couldn't use data file" -m coverage combine --quiet
	@$(RUN) -m coverage report

format:
	@.ci/venv $(VENV) dev
	@$(RUN) -m ruff check --fix --quiet . || true
	@$(RUN) -m ruff format .

bench:
	@.ci/venv $(VENV) bench
	@$(RUN) benchmarks/run.py $(ARGS)

docs:
	@.ci/venv $(VENV)-docs docs
	@$(VENV)-docs/bin/python -m mkdocs build --strict --site-dir site $(ARGS)
	@echo "site/index.html"

clean:
	rm -rf $(VENV) $(VENV).lock $(VENV)-docs $(VENV)-docs.lock .venv-pip-cache site build dist .coverage .pytest_cache .mypy_cache .ruff_cache
