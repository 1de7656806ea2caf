#!/bin/sh
# Leads an election from a shell, for as long as it runs. curl 7.82 or newer.
api=${QUORATE_URL:-http://127.0.0.1:17400}/v1
session=$(curl -sf "$api/sessions" --json '{"ttlMs":10000,"client":"lead.sh"}' | sed 's/.*"session":"\([^"]*\)".*/\1/')
trap 'curl -s -o /dev/null -X DELETE "$api/sessions/$session"' EXIT; trap exit INT TERM
until grant=$(curl -sf "$api/elections/default/main/campaign" --json "{\"session\":\"$session\"}"); do sleep 1; done
echo "leading: $grant"
while curl -sf -o /dev/null -X POST "$api/sessions/$session/keepalive"; do sleep 3 & wait $!; done
