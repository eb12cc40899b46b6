# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Install the distribution's Python >= 3.10 with venv and pip. Runs as root, needs POSIX sh only.
# Argument: an interpreter that is new enough and lacks only the modules, or nothing.
found=$1

try() {
    "$@" >/dev/null 2>&1
}

if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    packages="python3 python3-venv"
    if [ -n "$found" ]; then
        packages=python$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
    fi
    install() {
        # shellcheck disable=SC2086 # several packages in one variable
        try apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $packages
    }
    # A fresh image has no package lists, an older one may have outdated ones.
    install || { try apt-get -o DPkg::Lock::Timeout=120 update && install; }
elif command -v dnf >/dev/null; then
    # Enterprise Linux 9 has Python 3.9 by default, and newer ones beside it.
    try dnf install -y python3.12 python3.12-pip ||
        try dnf install -y python3.11 python3.11-pip ||
        try dnf install -y python3 python3-pip
elif command -v zypper >/dev/null; then
    try zypper --non-interactive install python312 python312-pip ||
        try zypper --non-interactive install python311 python311-pip ||
        try zypper --non-interactive install python3 python3-pip
elif command -v apk >/dev/null; then
    try apk add --no-cache python3 py3-pip
else
    exit 1
fi
