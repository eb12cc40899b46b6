-- SPDX-License-Identifier: Apache-2.0
-- Pushes ever new blobs of 4 KiB, each by POST and by PUT to the place that POST has named.
-- arguments: path of the uploads, word that blobs begin with
local ffi = require("ffi")
ffi.cdef("unsigned char *SHA256(const unsigned char *data, size_t size, unsigned char *digest);")
local crypto = ffi.load("libcrypto.so.3")

local number, pool = 0, {}
local path, word
local waiting = {}
local hashed = ffi.new("unsigned char[32]")

pushed = 0

function setup(thread)
  thread:set("own", #pool)
  pool[#pool + 1] = thread
end

function init(arguments)
  path, word = arguments[1], arguments[2]
  wrk.headers["Content-Type"] = "application/octet-stream"
end

local function digest(content)
  crypto.SHA256(content, #content, hashed)
  local hex = {}
  for at = 0, 31 do hex[at + 1] = string.format("%02x", hashed[at]) end
  return "sha256:" .. table.concat(hex)
end

function request()
  local place = table.remove(waiting)
  if place == nil then return wrk.format("POST", path, nil, "") end
  number = number + 1
  local start = string.format("%s %d %d ", word, own, number)
  local content = start .. string.rep("x", 4096 - #start)
  local join = place:find("?", 1, true) and "&" or "?"
  return wrk.format("PUT", place .. join .. "digest=" .. digest(content), nil, content)
end

function response(status, headers)
  if status == 201 then
    pushed = pushed + 1
  elseif status == 202 then
    local place = headers["Location"] or headers["location"]
    waiting[#waiting + 1] = place:gsub("^https?://[^/]+", "")
  end
end

function done()
  local sum = 0
  for _, thread in ipairs(pool) do sum = sum + thread:get("pushed") end
  print("pushed " .. sum)
end
