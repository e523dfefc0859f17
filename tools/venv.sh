#!/bin/bash
# Makes .venv with the package in it; with `dev` also what the tests need. An environment that works is kept.
#   tools/venv.sh [dev]
# VENV=.venv-other names another directory, PYTHON=/path/to/python3.13 the Python that makes it.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
what=.
stamp=$venv/.installed
if [[ ${1-} == dev ]]; then
    what='.[dev]'
    stamp=$venv/.installed-dev
fi

if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(tools/python.sh)
    echo "making $venv with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
echo "installing $what into $venv (a minute the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --editable "$what"
touch "$stamp"
