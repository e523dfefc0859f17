#!/bin/bash
# Which Python makes the virtual environment? Prints its path, or on stderr what to install.
#   tools/python.sh [--service]     --service: not one in a home directory, which systemd's ProtectHome hides
# PYTHON=/path/to/python names one.
set -euo pipefail

service=no
[[ ${1-} == --service ]] && service=yes

fits() { # is "$1" Python 3.11 or newer, and visible to the service?
    command -v "$1" >/dev/null || return 1
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || return 1
    [[ $service == no ]] || "$1" -c 'import sys; sys.exit(sys.base_prefix.startswith(("/root/", "/home/")))' || return 1
}
has_venv() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }

if [[ -n ${PYTHON-} ]]; then
    candidates=("$PYTHON")
else
    candidates=(python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3 /usr/bin/python3.{14,13,12,11})
fi

bare=
for python in "${candidates[@]}"; do
    fits "$python" || continue
    if has_venv "$python"; then
        command -v "$python"
        exit 0
    fi
    bare=${bare:-$python}
done

if [[ -n $bare ]]; then
    version=$("$bare" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    package=python$version-venv
    [[ $(readlink -f "$(command -v "$bare")") == "$(readlink -f /usr/bin/python3 2>/dev/null)" ]] && package=python3-venv
    echo "$bare cannot make virtual environments: Debian and Ubuntu have that in a package of its own" >&2
    echo "  sudo apt-get install -y $package" >&2
elif [[ -n ${PYTHON-} ]]; then
    echo "PYTHON=$PYTHON is not Python 3.11 or newer" >&2
    echo "  leave PYTHON out, or name another one: make PYTHON=/usr/bin/python3 ..." >&2
else
    echo "there is no Python 3.11 or newer here" >&2
    echo "  sudo apt-get install -y python3 python3-venv    (Debian 12, Ubuntu 24.04 or newer)" >&2
    echo "  sudo apt-get install -y python3.11 python3.11-venv    (Ubuntu 22.04)" >&2
fi
exit 1
