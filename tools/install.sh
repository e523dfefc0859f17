#!/bin/bash
# Installs this checkout: PREFIX/VERSION (a virtual environment), PREFIX/current (a link to it) and BIN/relayctl (a link
# through `current`). An installed environment is never changed, because processes run from it; a step back is to move
# the link. So the same version with other contents becomes VERSION-2, and so on.
#   tools/install.sh            PREFIX=/opt/relay BIN=/usr/local/bin
#   tools/install.sh remove     removes program and links; sites and state stay
set -euo pipefail
cd "$(dirname "$0")/.."
PREFIX=${PREFIX:-/opt/relay}
BIN=${BIN:-/usr/local/bin}
umask 022

fail() {
    echo "$1" >&2
    [[ -z ${2-} ]] || echo "  $2" >&2
    exit 1
}
ours() { [[ ! -e $1 && ! -L $1 ]] || [[ $(readlink "$1") == "$PREFIX/current/bin/relayctl" ]]; }

mkdir -p "$PREFIX" "$BIN" 2>/dev/null && [[ -w $PREFIX && -w $BIN ]] ||
    fail "cannot write $PREFIX and $BIN" "sudo make ${1:+un}install"
ours "$BIN/relayctl" || fail "$BIN/relayctl exists and is not a link of ours" "move it away, or: make install BIN=/usr/bin"

if [[ ${1-} == remove ]]; then
    if [[ $PREFIX == /opt/relay ]] && systemctl is-active --quiet relay.socket relay.service 2>/dev/null; then
        fail "the relay is running" "${SUDO_USER:+sudo }systemctl disable --now relay.service relay.socket"
    fi
    if [[ $PREFIX == /opt/relay && -e /etc/relay-net ]]; then # only relayctl can undo it
        fail "the network guard of net apply is in place" "${SUDO_USER:+sudo }relayctl net apply --undo"
    fi
    running=$(grep -lsE "^$PREFIX/" /proc/[0-9]*/cmdline | wc -l || true)
    if ((running)); then # workers outlive the service while they have open connections
        fail "$running processes still run from $PREFIX" "${SUDO_USER:+sudo }systemctl kill relay.service"
    fi
    for environment in "$PREFIX"/*/; do # only with our mark: PREFIX might hold other things
        [[ -L ${environment%/} || ! -e $environment.contents ]] || rm -rf "${environment%/}"
    done
    rm -f "$PREFIX/current" "$BIN/relayctl"
    rmdir "$PREFIX" 2>/dev/null || true
    echo "removed $PREFIX and $BIN/relayctl; /etc/relay, /var/lib/relay and the units in /etc/systemd/system stay"
    exit 0
fi

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' relay/__init__.py)
[[ -n $version ]] || fail "relay/__init__.py names no version"
sources() { find relay -name '*.py' -o -path 'relay/*' -type f ! -path '*/__pycache__/*' ! -name '*.pyc'; }
contents=$({ sources | sort -u | xargs -d '\n' sha256sum; sha256sum pyproject.toml README.md; } | sha256sum | cut -c1-16)

name=$version
number=1
while [[ -e $PREFIX/$name ]]; do
    [[ $(cat "$PREFIX/$name/.contents" 2>/dev/null) == "$contents" ]] && break
    number=$((number + 1))
    name=$version-$number
done

if [[ -e $PREFIX/$name ]]; then
    echo "$PREFIX/$name has exactly these contents already"
else
    python=$(tools/python.sh --service)
    copy=$(mktemp -d)
    trap 'rm -rf "$copy" "$PREFIX/$name"' EXIT
    # from a copy: building leaves files behind, and files of root do not belong in the checkout
    cp -r relay pyproject.toml README.md LICENSE "$copy"
    echo "making $PREFIX/$name with $python; pip downloads packages for a minute or two"
    "$python" -m venv "$PREFIX/$name"
    "$PREFIX/$name/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$copy[report]"
    "$PREFIX/$name/bin/relayctl" --version >/dev/null
    echo "$contents" >"$PREFIX/$name/.contents"
    trap - EXIT
    rm -rf "$copy"
fi

before=$(readlink "$PREFIX/current" || true)
ln -sfn "$name" "$PREFIX/.current.new"
mv -T "$PREFIX/.current.new" "$PREFIX/current" # one step: there is always a `current`
ln -sfn "$PREFIX/current/bin/relayctl" "$BIN/relayctl"

echo "$BIN/relayctl is $("$BIN/relayctl" --version)"
if [[ -n $before && $before != "$name" ]]; then
    echo "  to use it:   ${SUDO_USER:+sudo }relayctl upgrade"
    echo "  a step back: ${SUDO_USER:+sudo }ln -sfn $before $PREFIX/current && ${SUDO_USER:+sudo }relayctl upgrade"
elif [[ ! -e /etc/relay/relay.yaml ]]; then
    echo "  next: ${SUDO_USER:+sudo }relayctl init /etc/relay --systemd"
fi
