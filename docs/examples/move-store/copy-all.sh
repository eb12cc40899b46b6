#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copy every image that has a tag from one registry to another, with what refers to it. Run again, it
# sends what is new. It needs curl and jq; a login for the list of images is taken from ~/.netrc.
# usage: copy-all.sh https://OLD:PORT https://NEW:PORT [OPTION OF buildset-registry copy ...]
set -eu
old=$1 NEW=${2#https://}/
export NEW
shift 2

list() { # list PATH KEY: print all that a list of the old registry has, page by page
    last=
    while :; do
        page=$(curl --fail --silent --show-error --netrc-optional "$old$1?n=500&last=$last") || exit 1
        names=$(printf '%s' "$page" | jq --raw-output ".$2[]?")
        [ -n "$names" ] || break
        printf '%s\n' "$names"
        last=$(printf '%s\n' "$names" | tail -n 1)
    done
}

images=$(mktemp)
trap 'rm -f "$images"' EXIT
repositories=$(list /v2/_catalog repositories)
for repository in $repositories; do
    tags=$(list "/v2/$repository/tags/list" tags)
    for tag in $tags; do
        echo "${old#https://}/$repository:$tag"
    done
done >"$images"
# The images come after the options, and where they go to after the images.
# shellcheck disable=SC2016  # the inner shell is to see these variables
xargs --no-run-if-empty --max-args 100 \
    sh -c 'exec buildset-registry copy --referrers "$@" "$NEW"' copy "$@" <"$images"
