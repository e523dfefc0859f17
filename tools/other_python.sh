#!/bin/bash
# Prints the path of a second Python, newer than the one of .venv, to run the tests with; fails if none can be had.
#   tools/other_python.sh
# OTHER_PYTHON=/path/to/python3.14 names one.
set -euo pipefail
cd "$(dirname "$0")/.."

newest_first=(3.14 3.13 3.12)
here=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

works() { # is $1 a Python of version $2 that can make virtual environments?
    [[ -x $1 ]] && "$1" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

if [[ -n ${OTHER_PYTHON-} ]]; then
    command -v "$OTHER_PYTHON"
    exit
fi
for version in "${newest_first[@]}"; do
    [[ $version != "$here" ]] || break
    found=$(command -v "python$version" || true)
    if [[ -n $found ]] && works "$found" "$version"; then
        echo "$found"
        exit 0
    fi
    if command -v pyenv >/dev/null; then
        for found in "$(pyenv root)/versions/$version".*/bin/python; do
            if works "$found" "$version"; then
                echo "$found"
                exit 0
            fi
        done
    fi
    if command -v uv >/dev/null && found=$(uv python find --no-python-downloads "$version" 2>/dev/null) && works "$found" "$version"; then
        echo "$found"
        exit 0
    fi
    if ((EUID == 0)) && command -v apt-get >/dev/null && [[ -n $(apt-cache search --names-only "^python$version-venv\$" 2>/dev/null) ]]; then
        apt-get install -y -qq --no-install-recommends "python$version-venv" >/dev/null
        command -v "python$version"
        exit 0
    fi
done
echo "no Python newer than $here here: not on PATH, not in pyenv or uv, not among the distribution's packages" >&2
exit 1
