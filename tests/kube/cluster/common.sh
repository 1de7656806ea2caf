# What every part of a cluster agrees on. Sourced with NAME set.

# Absolute, as some of what asks for it runs in another folder.
cache=$(realpath -m "${QUORATE_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quorate-kube}")
export QUORATE_KUBE_CACHE=$cache
dir=$cache/clusters/$NAME

# Addresses exist only in the cluster's own network namespaces, so that every cluster has the same. Node N has $subnet.1N
# and gives its pods 10.244.N.0/24; the control plane and the DNS server have $subnet.1.
subnet=10.89.0
control_plane=$subnet.1
pods=10.244
services=10.96.0.0/16
first_service=10.96.0.1

# Whatever leads to the rest of the world does not lead there.
export NO_PROXY=${NO_PROXY:+$NO_PROXY,}10.0.0.0/8,.cluster.local
export no_proxy=$NO_PROXY

# All control groups of the cluster are below this one, in every hierarchy (version 1) or in the only one (version 2).
cgroup=quorate-kube-$NAME
cgroup_hierarchies() {
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup; else ls -d /sys/fs/cgroup/*/; fi
}

# Fails while a process in one of them is still ending.
remove_cgroup() {
    [ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} +
}

# Writes down the process id of this shell as the outermost namespace sees it, in which $1 is the folder of processes.
write_pid() {
    local pid
    read -r pid _ <"$1/self/stat"
    echo "$pid" >"$2"
}

# Runs a program in the background, with a log of its own that goes on where it was.
background() {
    local log=$1
    shift
    "$@" >>"$dir/log/$log.log" 2>&1 &
}

# The same, and again whenever it ends, as a kubelet does with a control plane in pods: a scheduler, for one, ends itself when it finds
# that the API server has told it of a pod on another node than the one that it had assumed.
background_for_good() {
    local log=$1
    shift
    while true; do
        "$@" >>"$dir/log/$log.log" 2>&1 || echo "it ended with $?; once more" >>"$dir/log/$log.log"
        sleep 0.2
    done &
}

# Tries a command again until it succeeds: at most $1 times, a twentieth of a second apart.
retry() {
    local tries=$1
    shift
    until "$@" >/dev/null 2>&1; do
        ((--tries > 0)) || { echo "it never succeeded: $*" >&2; return 1; }
        sleep 0.05
    done
}
