#!/usr/bin/env bash
# Builds the programs of a cluster from the Go modules that pins/ names, and prints the folder that they are in.
# Some ten minutes on two cores the first time; a change of the pins builds anew; two that start at once share the work.
# `build.sh MODULE` builds only what that one of pins/ names.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
example=$here/../../../examples/kubernetes/worker
cache=${QUORATE_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quorate-kube}
key=$(cd "$here" && cat build.sh pins/*/go.* programs/go.* programs/*/main.go "$example"/* | sha256sum | cut -c -16)
bin=$cache/bin-$key

mkdir -p "$bin"
exec {lock}>"$cache/build.lock"
flock "$lock"
export CGO_ENABLED=0

# Unstamped programs call themselves v0.0.0, and Helm's check of `kubeVersion` fails.
kubernetes=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" { print $3 }' "$here/pins/kubernetes/go.mod")
IFS=. read -r major minor _ <<<"${kubernetes#v}"
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=$major -X $package.gitMinor=$minor"
    flags+=" -X $package.gitTreeState=archive -X $package.buildDate=1970-01-01T00:00:00Z"
done

# Builds packages of a module, unless that was done before.
build() {
    local name=$1 module=$2 packages=$3
    [ ! -e "$bin/.$name" ] || return 0
    echo "building $name" >&2
    # What debuggers read is stripped anyway, and takes an eighth of the time.
    go build -C "$module" -trimpath -gcflags=all=-dwarf=false -ldflags "$flags" -o "$bin/" "$packages"
    # The module's path ends in `server`, and so does what Go makes of it.
    [ "$name" != etcd ] || mv "$bin/server" "$bin/etcd"
    touch "$bin/.$name"
}

# The image of a program, as `docker save` would write it.
image() {
    local program=$1 reference=$2 work
    [ ! -e "$bin/$program.tar" ] || return 0
    work=$(mktemp -d)
    tar -C "$bin" --owner=0 --group=0 -cf "$work/layer.tar" "$program"
    cat >"$work/config.json" <<END
{"architecture": "$(go env GOARCH)", "os": "linux", "config": {"Entrypoint": ["/$program"], "User": "65535:65535"},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)"]}}
END
    echo '[{"Config": "config.json", "RepoTags": ["'"$reference"'"], "Layers": ["layer.tar"]}]' >"$work/manifest.json"
    tar -C "$work" -cf "$work/image.tar" manifest.json config.json layer.tar
    mv "$work/image.tar" "$bin/$program.tar"
    rm -r "$work"
}

if [ $# -gt 0 ]; then
    build "$1" "$here/pins/$1" tool
else
    # The largest takes half of the time; while it downloads or links, the others compile.
    build kubernetes "$here/pins/kubernetes" tool &
    build programs "$here/programs" ./...
    build worker "$example" .
    for module in "$here"/pins/*/; do
        [ "$module" = "$here/pins/kubernetes/" ] || build "$(basename "$module")" "$module" tool
    done
    wait $!
    # The container that holds a pod's namespaces, and the application of an example.
    image pause quorate.test/pause:1
    image worker localhost/worker:1
fi
# What nobody has used for a month goes.
touch "$bin"
find "$cache" -maxdepth 1 -name 'bin-*' -mtime +30 -exec rm -r {} +
echo "$bin"
