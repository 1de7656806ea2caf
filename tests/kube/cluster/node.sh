#!/usr/bin/env bash
# A node of a cluster.
#
#   node.sh NAME N plug-in                  from the control plane's namespaces: give node N a network and start it
#   node.sh NAME N run                      the first process of node N's namespaces
#   node.sh NAME N in-pod IP COMMAND...     from node N's namespaces: run a command in the network of the pod with that address
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=$1 node=$2 command=$3
shift 3
. "$here/common.sh"
export PATH=$dir/bin:$PATH
disk=$dir/node$node address=$subnet.1$node
containerd=/run/containerd/containerd.sock

plug_in() {
    # What a power cut left.
    ip link delete "node$node" 2>/dev/null || true
    ip netns delete "node$node" 2>/dev/null || true
    ip netns add "node$node"
    ip link add "node$node" type veth peer name eth0 netns "node$node"
    ip link set "node$node" master fabric0 up
    ip -n "node$node" link set lo up
    ip -n "node$node" addr add "$address/24" dev eth0
    ip -n "node$node" link set eth0 up
    ip -n "node$node" route add default via "$control_plane"
    ip route replace "$pods.$node.0/24" via "$address"
    local hierarchy
    for hierarchy in $(cgroup_hierarchies); do
        # With its power, a node loses these too. The kubelet would look for the containers in them, for ten seconds and more.
        remove_cgroup "$hierarchy/$cgroup/node$node"
        mkdir "$hierarchy/$cgroup/node$node"
    done
    setsid nsenter --net="/run/netns/node$node" unshare --mount --pid --fork --kill-child --propagation private \
        -- "$here/node.sh" "$NAME" "$node" run >>"$dir/log/node$node.log" 2>&1 &
}

run() {
    write_pid /run/outside "$disk/pid"
    mount -t proc proc /proc
    mount --make-rshared /
    mount -t tmpfs tmpfs /run
    # Folders that kubelet and containerd use whatever they are told, here on the node's own disk.
    local folder
    for folder in lib log; do mkdir -p "$disk/var/$folder" && mount --bind "$disk/var/$folder" "/var/$folder"; done
    sysctl -qw net.ipv4.ip_forward=1
    # A kernel without the filter of bridged packets has no such setting: a pod cannot reach a service through itself then.
    sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
    start_containerd
    start_kubelet
    start_proxy
    wait
}

start_containerd() {
    mkdir -p "$disk/cni"
    cat >"$disk/cni/pods.conflist" <<END
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true, "ipam":
    {"type": "host-local", "dataDir": "/run/addresses", "ranges": [[{"subnet": "$pods.$node.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
    # Without the right to lower its OOM score, runc dies of trying; hence restrict_oom_score_adj.
    cat >"$disk/containerd.toml" <<END
version = 2
root = "$disk/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "$containerd"
[plugins."io.containerd.internal.v1.opt"]
  path = "$disk/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "quorate.test/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$disk/cni"
END
    background "node$node-containerd" containerd --config "$disk/containerd.toml"
    retry 600 ctr --address "$containerd" version
    local archive import imports=()
    for archive in "$dir"/images/*.tar; do
        ctr --address "$containerd" --namespace k8s.io images import "$archive" &
        imports+=($!)
    done
    for import in "${imports[@]}"; do wait "$import"; done
}

start_kubelet() {
    # Nobody in a container may lower an OOM score or raise the number of open files; hence these two settings.
    cat >"$disk/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$containerd
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup/node$node
failSwapOn: false
oomScoreAdj: 0
maxOpenFiles: 20000
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $dir/pki/ca.crt}}
authorization: {mode: Webhook}
clusterDomain: cluster.local
clusterDNS: ["$control_plane"]
resolvConf: $dir/conf/resolv.conf
volumePluginDir: $disk/plugins
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
nodeStatusUpdateFrequency: 5s
syncFrequency: 2s
# What has crashed is started again within a second, however often.
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
serializeImagePulls: false
END
    background_for_good "node$node-kubelet" kubelet --config="$disk/kubelet.yaml" --kubeconfig="$dir/conf/node$node" \
        --hostname-override="node$node" --node-ip="$address" --root-dir="$disk/kubelet" --cert-dir="$disk/kubelet-pki" \
        --node-labels="topology.kubernetes.io/zone=zone$node"
}

start_proxy() {
    # It would collect changes of Services for a second before it acts on them: that suits large clusters.
    cat >"$disk/proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $dir/conf/proxy}
hostnameOverride: node$node
mode: nftables
nftables: {minSyncPeriod: 10ms}
clusterCIDR: $pods.0.0/16
oomScoreAdj: 0
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
    background "node$node-proxy" kube-proxy --config="$disk/proxy.yaml"
}

in_pod() {
    local ip=$1 network
    shift
    for network in /run/netns/cni-*; do
        if nsenter --net="$network" ip -4 -oneline addr show eth0 2>/dev/null | grep -qF " $ip/"; then
            exec nsenter --net="$network" "$@"
        fi
    done
    echo "node $node has no pod with the address $ip" >&2
    exit 1
}

case $command in
plug-in) plug_in ;;
run) run ;;
in-pod) in_pod "$@" ;;
*) exit 2 ;;
esac
