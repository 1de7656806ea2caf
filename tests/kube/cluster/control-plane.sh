#!/usr/bin/env bash
# The control plane of a cluster, as the first process of its namespaces; or, with `api`, another API server in them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=$1 what=$2
. "$here/common.sh"
export PATH=$dir/bin:$PATH
pki=$dir/pki conf=$dir/conf

network() {
    ip link set lo up
    ip link add fabric0 type bridge
    ip addr add "$control_plane/24" dev fabric0
    ip link set fabric0 up
    ip route add "$services" dev fabric0
    sysctl -qw net.ipv4.ip_forward=1
    # A kernel without the filter of bridged packets has no such setting, and needs none.
    sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true
}

# A certificate for $2, by the cluster's authority, with the extensions $3.
certificate() {
    local name=$1 subject=$2 extensions=$3
    openssl ecparam -name prime256v1 -genkey -noout -out "$pki/$name.key"
    openssl req -new -key "$pki/$name.key" -subj "$subject" | openssl x509 -req -CA "$pki/ca.crt" -CAkey "$pki/ca.key" \
        -CAcreateserial -days 30 -extfile <(echo "$extensions") -out "$pki/$name.crt" 2>/dev/null
}

# A certificate for a user of the API, and the file with which kubectl and the others use it.
user() {
    local name=$1 subject=$2
    certificate "$name" "$subject" 'extendedKeyUsage = clientAuth'
    cat >"$conf/$name" <<END
apiVersion: v1
kind: Config
clusters:
- {name: quorate, cluster: {server: "https://$control_plane:6443", certificate-authority-data: $(base64 -w 0 "$pki/ca.crt")}}
users:
- {name: $name, user: {client-certificate-data: $(base64 -w 0 "$pki/$name.crt"), client-key-data: $(base64 -w 0 "$pki/$name.key")}}
contexts:
- {name: quorate, context: {cluster: quorate, user: $name}}
current-context: quorate
END
}

identities() {
    local nodes=$1 node
    openssl ecparam -name prime256v1 -genkey -noout -out "$pki/ca.key"
    openssl req -x509 -new -key "$pki/ca.key" -subj /CN=quorate-kube -days 30 -out "$pki/ca.crt"
    openssl ecparam -name prime256v1 -genkey -noout -out "$pki/service-accounts.key"
    openssl ec -in "$pki/service-accounts.key" -pubout -out "$pki/service-accounts.pub" 2>/dev/null
    certificate apiserver /CN=kube-apiserver "extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, DNS:kubernetes, DNS:kubernetes.default, DNS:kubernetes.default.svc, IP:127.0.0.1, IP:$control_plane, IP:$first_service"
    certificate kubelet-client /O=system:masters/CN=kube-apiserver 'extendedKeyUsage = clientAuth'
    user admin /O=system:masters/CN=admin
    user controller-manager /CN=system:kube-controller-manager
    user scheduler /CN=system:kube-scheduler
    user proxy /CN=system:kube-proxy
    for ((node = 1; node <= nodes; node++)); do user "node$node" "/O=system:nodes/CN=system:node:node$node"; done
}

etcd_server() {
    background etcd etcd --data-dir="$dir/etcd" --unsafe-no-fsync --listen-peer-urls=http://127.0.0.1:2380 \
        --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379
}

# Writes down who has changed what of Quorate's statuses and of a StatefulSet's size, and which accounts of services have changed pods
# and Leases, with the pod that asked: tests look for it.
audit_policy() {
    cat <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  verbs: [patch, update]
  resources:
  - {group: quorate.io, resources: [quorateclusters/status, replicatedconfigs/status, leaderelections/status]}
  - {group: apps, resources: [statefulsets/scale]}
- level: Request
  verbs: [create, patch, update]
  userGroups: ["system:serviceaccounts"]
  resources:
  - {group: "", resources: [pods]}
  - {group: coordination.k8s.io, resources: [leases]}
- level: None
END
}

api_server() {
    audit_policy >"$conf/audit"
    background apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --allow-privileged=true \
        --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$control_plane" \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
        --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" \
        --kubelet-preferred-address-types=InternalIP --service-cluster-ip-range="$services" \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-key-file="$pki/service-accounts.pub" --service-account-signing-key-file="$pki/service-accounts.key" \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --audit-policy-file="$conf/audit" --audit-log-path="$dir/log/audit.log"
    echo $! >"$dir/api.pid"
    retry 1200 kubectl --kubeconfig "$conf/admin" get --raw /readyz
}

# What makes pods of objects. The nodes need it, the API server does not.
controllers() {
    background_for_good controller-manager kube-controller-manager --kubeconfig="$conf/controller-manager" --bind-address=127.0.0.1 \
        --authentication-kubeconfig="$conf/controller-manager" --authorization-kubeconfig="$conf/controller-manager" \
        --leader-elect=false --use-service-account-credentials --service-account-private-key-file="$pki/service-accounts.key" \
        --root-ca-file="$pki/ca.crt" --service-cluster-ip-range="$services" \
        --flex-volume-plugin-dir="$dir/plugins"
    background_for_good scheduler kube-scheduler --kubeconfig="$conf/scheduler" --bind-address=127.0.0.1 --leader-elect=false \
        --authentication-kubeconfig="$conf/scheduler" --authorization-kubeconfig="$conf/scheduler"
    cat >"$conf/Corefile" <<END
.:53 {
    bind $control_plane
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig $conf/admin
        pods insecure
    }
}
END
    background_for_good coredns coredns -conf "$conf/Corefile"
}

if [ "$what" = api ]; then
    api_server
    # What has asked for it in vain asks less and less often, so that for half a minute more nobody would see what has happened. Where
    # there are several of each, such controllers end for want of a Lease and are started again, and another DNS server answers. The
    # containers of a kubelet go on without it.
    pkill -KILL -x 'kube-controller|kube-scheduler|coredns|kubelet' || true
    exit
fi
mkdir -p "$pki" "$conf"
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir /run/netns /run/outside
# Private, or it would be covered together with /proc.
mount --bind --make-private /proc /run/outside
write_pid /run/outside "$dir/pid"
mount -t proc proc /proc
network
identities "$what"
printf 'nameserver %s\nsearch svc.cluster.local\n' "$control_plane" >"$conf/resolv.conf"
etcd_server
api_server
[ "$what" = 0 ] || controllers
echo ready
exec >>"$dir/log/control-plane.log"
wait
