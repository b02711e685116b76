#!/bin/sh
# Makes .venv if it is missing and brings it up to date: dev/env.sh EXTRA...
#
# The package is installed as a tree of links, so a new or deleted file is invisible until it is
# installed again. What an installation depends on is written down per extra (a stamp); when every
# stamp is current this script does nothing and takes some milliseconds. Only .venv and build/ are
# written, never the outer Python.
set -eu
cd "$(dirname "$0")/.."
stamps=.venv/stamps

say() { printf 'langswarm-session: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
no_ensurepip='lacks ensurepip (Debian, Ubuntu: apt install python3-venv).'

current_state() {
    pwd
    find session actors runtime adapters \
        \( -name '*.py' -o -name '*.sql' -o -name py.typed \) -print 2>/dev/null | LC_ALL=C sort
    cat pyproject.toml .venv/pyvenv.cfg 2>/dev/null || : # the latter names the Python
}

make_venv() {
    for python in python3 python3.14 python3.13 python3.12 python3.11 none; do
        recent "$python" && break
    done
    [ "$python" != none ] || die "needs Python 3.11 or newer: no such python3 is on the PATH."
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python $no_ensurepip"
    say "making .venv with $("$python" --version)"
    "$python" -m venv .venv # never --clear: the running just may live in there
}

check_venv() {
    [ -d .venv/bin ] || make_venv
    .venv/bin/python -c '' 2>/dev/null || die "the Python of .venv does not run: remove .venv."
    recent .venv/bin/python ||
        die "needs Python 3.11 or newer, .venv has $(.venv/bin/python --version 2>&1):" \
            "remove .venv and make it with a newer one."
    .venv/bin/python -c 'import pip' 2>/dev/null ||
        .venv/bin/python -m ensurepip >/dev/null 2>&1 || die ".venv $no_ensurepip"
}

state=$(current_state)
current=yes
for extra in "$@"; do
    [ -f "$stamps/$extra" ] && [ "$(cat "$stamps/$extra")" = "$state" ] || current=no
done
for tree in build/__editable__.*; do # the links: build/ may have been deleted
    [ -d "$tree" ] || current=no
done
[ "$current" = no ] || exit 0

check_venv
state=$(current_state) # .venv may be new
mkdir -p "$stamps"
extras=$({ printf '%s\n' "$@"; ls "$stamps"; } | sort -u) # those of earlier runs stay current too
list=$(printf '%s' "$extras" | tr '\n' ,)
say "installing into .venv: ${list%,}"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[${list%,}]"
for extra in $extras; do
    printf '%s\n' "$state" >"$stamps/$extra"
done
