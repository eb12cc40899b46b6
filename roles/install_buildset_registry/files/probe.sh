# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Tell what a node has, with POSIX sh only: it may have no Python yet.
# Arguments: VENV PYTHON WANTED REMOTE_PACKAGE, each may be empty.
# Prints br_KEY=VALUE lines: uid, venv, wanted, installed (yes or no) and, where it is not
# installed, python (one that can make a venv) and found (one that is new enough, at least).
venv=$1
python=$2
wanted=$3
remote=$4

uid=$(id -u)
home=${HOME:-$(cd ~ && pwd)}
if [ -z "$venv" ]; then
    if [ "$uid" = 0 ]; then venv=/opt/buildset-registry; else venv=$home/.local/lib/buildset-registry; fi
fi
case $venv in
    \~/*) venv=$home/${venv#??} ;;
esac
# What a path on the node holds may change under the same name.
if [ -n "$remote" ]; then wanted="$wanted $(find -L "$remote" -type f -exec cksum {} + 2>&1 | sort | cksum)"; fi
wanted="$wanted python=${python:-any}"
echo "br_uid=$uid"
echo "br_venv=$venv"
echo "br_wanted=$wanted"

marker=
if [ -r "$venv/.installed" ]; then IFS= read -r marker <"$venv/.installed"; fi
if [ "$marker" = "$wanted" ] && [ -x "$venv/bin/python" ] && [ -x "$venv/bin/buildset-registry" ]; then
    echo "br_installed=yes"
    exit 0
fi
echo "br_installed=no"

if [ -n "$python" ]; then
    set -- "$python"
else
    set -- python3.14 python3.13 python3.12 python3.11 python3.10 python3
fi
found=
for candidate; do
    # A name on PATH may be a shim that only says that its version is not chosen.
    path=$("$candidate" -c 'import sys; sys.version_info >= (3, 10) and print(sys.executable)' 2>/dev/null)
    [ -n "$path" ] || continue
    found=${found:-$path}
    # Debian has both modules in a package of their own.
    "$path" -c 'import ensurepip, venv' >/dev/null 2>&1 || continue
    echo "br_python=$path"
    break
done
echo "br_found=$found"
exit 0
