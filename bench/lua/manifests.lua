-- SPDX-License-Identifier: Apache-2.0
-- Puts ever new manifests, each under a tag of its own.
-- arguments: path of the tags, manifest with NOTE in it, word that tags begin with
local number, threads = 0, 0
local path, manifest, word

function setup(thread)
  thread:set("own", threads)
  threads = threads + 1
end

function init(arguments)
  path, manifest, word = arguments[1], arguments[2], arguments[3]
  wrk.headers["Content-Type"] = "application/vnd.oci.image.manifest.v1+json"
end

function request()
  number = number + 1
  local tag = string.format("%s%d.%06d", word, own, number)
  return wrk.format("PUT", path .. tag, nil, (manifest:gsub("NOTE", tag)))
end
