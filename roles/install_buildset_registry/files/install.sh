# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Make the virtual environment and install the program into it.
# Arguments: VENV PYTHON WANTED KIND SOURCE BUNDLE EXTRAS. The marker file is removed first and written
# last, so that a run that was interrupted is repeated in full.
venv=$1
python=$2
wanted=$3
kind=$4
source=$5
bundle=$6
extras=${7:+[$7]}

fail() {
    echo "br_error=$1"
    exit 1
}

umask 022
parent=$(dirname "$venv")
if ! mkdir -p "$parent" 2>/dev/null || [ ! -w "$parent" ]; then
    fail "cannot write to $parent; become a user who can, or set buildset_registry_venv to another folder"
fi
work=$(mktemp -d) || fail "cannot make a temporary folder; set TMPDIR to one that can be written"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Two playbooks may install on one node at the same time.
if command -v flock >/dev/null; then
    exec 9<"$parent"
    flock 9
    if [ -r "$venv/.installed" ] && [ "$(cat "$venv/.installed")" = "$wanted" ]; then exit 0; fi
fi

if [ -e "$venv/.installed" ] && [ "$("$venv/bin/python" -c 'import sys; print(sys.base_prefix)' 2>/dev/null)" = \
    "$("$python" -c 'import sys; print(sys.base_prefix)')" ]; then
    rm -f "$venv/.installed"
    # pip takes 1.0+src.x for 1.0: without this, a release would not replace the role's own version.
    "$venv/bin/python" -m pip uninstall -y buildset-registry >/dev/null 2>&1
else
    "$python" -m venv --clear "$venv" >"$work/log" 2>&1 ||
        fail "$python cannot make a virtual environment in $venv: $(grep -v '^$' "$work/log" | tail -n 1)"
fi

if [ -n "$bundle" ]; then "$python" -m tarfile -e "$bundle" "$work" || fail "cannot unpack $bundle"; fi
case $kind in
    requirement) set -- "$source" ;;
    wheel)
        set --
        for file in "$work"/*.whl; do
            case $file in */buildset_registry-*) file=$file$extras ;; esac
            set -- "$@" "$file"
        done
        ;;
    wheelhouse) set -- --no-index --find-links "$work" "buildset-registry$extras" ;;
    remote)
        if [ ! -d "$source" ]; then
            set -- "$source$extras"
        elif ls "$source"/buildset_registry-* >/dev/null 2>&1; then
            set -- --no-index --find-links "$source" "buildset-registry$extras"
        else
            set -- --no-index --find-links "$source" "$(echo "$work"/*.whl)$extras"
        fi
        ;;
esac
# pip before 24.2 asks a list of its own, where a company's certificate authority is missing; the
# system's store has it. What pip's own settings name counts more than this.
store=$("$venv/bin/python" -c 'import ssl; print(ssl.get_default_verify_paths().cafile or "")')
if [ -n "$store" ]; then
    export REQUESTS_CA_BUNDLE="${REQUESTS_CA_BUNDLE:-${CURL_CA_BUNDLE:-$store}}"
fi
"$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
    --prefer-binary --retries 3 "$@" >"$work/log" 2>&1 || {
    reason=$(grep '^ERROR: ' "$work/log" | tail -n 1 | sed 's/^ERROR: //')
    hint="give a folder of wheels by buildset_registry_package, or an index by PIP_INDEX_URL in the role's environment"
    fail "pip cannot install buildset-registry with what it needs (${reason:-$(tail -n 1 "$work/log")}); $hint"
}
printf '%s\n' "$wanted" >"$venv/.installed"
