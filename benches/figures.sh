#!/usr/bin/env bash
# Takes the figures of docs/performance.md with target/release/quorate: figures.sh FOLDER
#
# ROUNDS  of each fail-over of a Raft leader (300)
# FEW     of each hand-over of an election, which may wait for a TTL or a Lease (30)
# TIMES   that all of it is done; each time is held against the first (2)
# ONLY    one of: load tuned failover elections lease growth
#
# Results are FOLDER/1/NAME.json and FOLDER/2/NAME.json, with a table (NAME.txt) and drawings (NAME/) beside each. The Lease needs
# root, for a cluster of its own; without, it is left out, and said so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:?which folder?}
rounds=${ROUNDS:-300} few=${FEW:-30} times=${TIMES:-2} only=${ONLY:-}
quorate=$(realpath "${CARGO_TARGET_DIR:-target}")/release/quorate
mkdir -p "$folder"
folder=$(realpath "$folder")
bin=$(tests/kube/cluster/build.sh etcd)
etcd=(--against etcd --etcd "$bin/etcd")

# Measures one thing once: NAME COMMAND...
take() {
    local name=$1
    shift
    [ -z "$only" ] || [ "$only" = "$name" ] || return 0
    echo "--- $name, time $time of $times" >&2
    "$@" >"$folder/$time/$name.json"
    "$quorate" bench show "$folder/$time/$name.json" | tee "$folder/$time/$name.txt"
    "$quorate" bench plot "$folder/$time/$name.json" --output "$folder/$time/$name"
    [ "$time" = 1 ] || "$quorate" bench compare "$folder/1/$name.json" "$folder/$time/$name.json" || differ+=" $name"
}

# Quorate and a Lease side by side, in a cluster that is an API server alone.
lease() {
    CGO_ENABLED=0 go build -C tests/kube/lease -trimpath -o "$folder/lease" .
    # shellcheck disable=SC2016
    tests/kube/run 0 sh -c 'exec "$@" --kubeconfig "$QUORATE_TEST_KUBECONFIG" >"$0"' "$folder/lease.out" \
        "$quorate" bench failover --against lease --lease-program "$folder/lease" \
        --only holder --rounds "$few" --output json >&2
    cat "$folder/lease.out"
    rm "$folder/lease.out"
}

differ=
for ((time = 1; time <= times; time++)); do
    mkdir -p "$folder/$time"
    take load "$quorate" bench load "${etcd[@]}" --output json
    take tuned "$quorate" bench load "${etcd[@]}" --pace tuned --output json --only ' 64 bytes'
    take failover "$quorate" bench failover "${etcd[@]}" --rounds "$rounds" --output json --skip holder
    take elections "$quorate" bench failover "${etcd[@]}" --rounds "$few" --output json --only holder
    if [ "$(id -u)" = 0 ]; then take lease lease; else echo "not run: a Lease, which needs root" >&2; fi
    take growth "$quorate" bench growth --output json
done
[ -z "$differ" ] || { echo "the second time differs by more than 25 % in:$differ" >&2; exit 1; }
