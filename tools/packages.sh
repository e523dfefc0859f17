#!/bin/bash
# Are the programs here that the system tests drive (or `demo`: the demo)? As root: installs what is missing. On a
# terminal: asks first. Else: says what to type, and fails.
#   tools/packages.sh [demo|lab]
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

wanted=( # program:Debian package
    sshd:openssh-server ssh:openssh-client ssh-keygen:openssh-client sftp:openssh-client rsync:rsync git:git
    dbclient:dropbear-bin plink:putty-tools puttygen:putty-tools
    ip:iproute2 ping:iputils-ping ss:iproute2 nft:nftables systemd-analyze:systemd unshare:util-linux ps:procps
    sudo:sudo iptables:iptables busybox:busybox dash:dash shellcheck:shellcheck chromium:chromium
)
why="the tests need"
if [[ ${1-} == demo ]]; then
    wanted=(ssh:openssh-client ssh-keygen:openssh-client)
    why="the demo needs"
fi
if [[ ${1-} == lab ]]; then
    wanted=(sshd:openssh-server ssh:openssh-client ip:iproute2 ping:iputils-ping nft:nftables unshare:util-linux)
    why="the lab needs"
fi
missing=()
for pair in "${wanted[@]}"; do
    command -v "${pair%%:*}" >/dev/null && continue
    [[ " ${missing[*]-} " == *" ${pair#*:} "* ]] || missing+=("${pair#*:}")
done
((${#missing[@]})) || exit 0

line="apt-get install -y --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "$why these Debian packages, or what your system calls them: ${missing[*]}" >&2
    exit 1
fi
# On a machine that runs systemd, Debian starts an sshd on port 22 as soon as it is installed.
note=
if [[ -d /run/systemd/system && " ${missing[*]} " == *" openssh-server "* ]]; then
    note="note: Debian starts an sshd on port 22 with openssh-server; to have none: systemctl disable --now ssh"
fi

sudo=()
if ((EUID != 0)); then
    sudo=(sudo)
    answer=no
    if [[ -t 0 && -t 1 ]] && command -v sudo >/dev/null; then
        echo "$why Debian packages that are not here: ${missing[*]}"
        [[ -z $note ]] || echo "$note"
        read -r -p "sudo $line? [y/N] " answer
    fi
    if [[ ${answer,,} != y* ]]; then
        echo "$why Debian packages that are not here (make quick needs none); type:" >&2
        echo "  sudo apt-get update && sudo $line" >&2
        exit 1
    fi
else
    echo "$why Debian packages, installing them: ${missing[*]}"
    [[ -z $note ]] || echo "$note"
fi
# an old list of packages names files that are gone from the mirrors, so it is fetched anew
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
# shellcheck disable=SC2086  # the line is words
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive $line -qq -o Dpkg::Use-Pty=0 </dev/null >/dev/null
