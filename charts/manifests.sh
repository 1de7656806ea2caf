#!/usr/bin/env bash
# Writes the chart with its default values as plain YAML, with a kustomization, into a folder: manifests.sh FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$1
helm=$(tests/kube/cluster/build.sh helm)/helm
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# Hooks and tests are Helm's own matter.
"$helm" template quorate charts/quorate --namespace quorate --no-hooks --output-dir "$work" >/dev/null
mkdir -p "$out"
rm -f "$out"/*.yaml
{
    cat <<END
# The chart with its default values, for the namespace \`quorate\`. The CRDs come first:
#
#     kubectl create namespace quorate
#     kubectl apply --server-side --filename crds/
#     kubectl apply --server-side --kustomize manifests/
#
# For another namespace, and for whatever else should differ, write a kustomization that has this one among its resources and
# says \`namespace: NAME\`. For a second cluster in the same Kubernetes use the chart: it gives each its own ClusterRole.
#
# Made from charts/quorate by \`make manifests\`.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
END
    for file in "$work"/quorate/templates/*.yaml; do echo "  - $(basename "$file")"; done
} >"$out/kustomization.yaml"
for file in "$work"/quorate/templates/*.yaml; do
    # Without the empty lines at the ends of documents, and without what Helm says of where each comes from.
    awk '/^# Source: / { next }
        /^$/ { empty++; next }
        /^---$/ { empty = 0; if (begun) print; next }
        { while (empty > 0) { print ""; empty-- } print; begun = 1 }' "$file" >"$out/$(basename "$file")"
done
