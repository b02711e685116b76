# The commands of this project. They need Python 3.11 with venv and nothing else:
#     python3 -m venv .venv && .venv/bin/pip install rust-just && .venv/bin/just demo
# Every recipe makes and refreshes .venv by itself (dev/env.sh). `just` may live in that .venv.

set positional-arguments

unexport PYTHONPATH
unexport PYTHONHOME

just := quote(just_executable())
python := ".venv/bin/python"

# Without it the repo's root is on sys.path, which hides faults of packaging.
safe := "PYTHONSAFEPATH=1 " + python

[private]
default:
    @{{ just }} --list

# Concurrent conversations through the whole runtime, verified (--backend trio, --input FILE, --help)
demo *args: (_env "cli" "trio")
    @.venv/bin/langswarm-session demo "$@"

# All tests on asyncio and on trio, without coverage (arguments go to pytest)
test *args: (_env "test")
    {{ safe }} -m pytest -m "not packaging" "$@"

# Lint, format, types, layers, branch coverage, packaging
gates: _lint _types _layers _coverage _packaging

# test and gates
check: test gates

# Benchmarks, each figure beside a floor measured in the same run (arguments go to benchmarks/run.py)
bench *args: (_env "test")
    {{ python }} benchmarks/run.py "$@"

# Of these, what the storage costs: appends, bytes per turn, reads, rehydration
bench-storage *args: (_env "test")
    {{ python }} benchmarks/run.py appends bytes history rehydrate "$@"

# Crash tests in full: kills, faults at every write and sync, power cuts (minutes; needs a C compiler)
crash *args: (_env "test")
    CRASH_TESTS=long {{ safe }} -m pytest -s tests/crash "$@"

# Look for broken promises in new programs and schedules, for so many minutes
sim minutes="5" *args: (_env "test")
    {{ python }} -m property_tests.campaign "$@"

# Whether the property tests find the bugs that are planted on purpose, and how soon
planted *args: (_env "test")
    {{ python }} -m property_tests.planted "$@"

# Sessions without end on real files, with faults, for so many minutes: what is left over is counted
soak minutes="3" *args: (_env "test")
    {{ python }} -m property_tests.soak "$@"

# Run the code blocks of README and docs, draw the diagrams anew
docs: (_env "test")
    {{ safe }} -m pytest tests/docs
    @if [ -f docs/make_diagrams.py ]; then {{ python }} docs/make_diagrams.py; fi

# Format, and mend what ruff can mend
fmt: (_env "gates")
    {{ python }} -m ruff format
    {{ python }} -m ruff check --fix

[no-exit-message]
_env *extras:
    @sh dev/env.sh "$@"

_lint: (_env "gates")
    {{ python }} -m ruff check
    {{ python }} -m ruff format --check

# By import name: that is how an installed package is seen.
_types: (_env "gates")
    {{ safe }} -m mypy -p langswarm.core.session -p langswarm.v1.session
    {{ safe }} -m mypy --explicit-package-bases tests property_tests
    {{ safe }} -m mypy benchmarks
    {{ safe }} -m mypy examples
    {{ python }} -m pyright

_layers: (_env "gates")
    .venv/bin/lint-imports --no-logo

# Planted bugs are left out: they say whether the properties have teeth, not what the product covers.
_coverage: (_env "test")
    PROPERTY_PROFILE=few SWEEPS_PROFILE=few {{ safe }} -m coverage run -m pytest \
        -m "not packaging" --ignore=property_tests/test_planted.py
    {{ safe }} -m coverage report

_packaging: (_env "test")
    {{ safe }} -m pytest -m packaging tests/packaging
