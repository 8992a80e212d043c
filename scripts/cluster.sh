#!/usr/bin/env bash
# A real Kubernetes cluster of one node, inside namespaces of its own, for `make cluster-test`:
#
#   scripts/cluster.sh check | up | down | status | kubectl ARGUMENT... | exec COMMAND... | import IMAGE.tar
#
# Everything from etcd to the pods lives in one set of pid, mount, net, uts and ipc namespaces whose pid 1 is init() below;
# killing that one process ends every process, mount, interface and netfilter rule of the cluster. Its network has no way to the
# outside: clients, brokers and tests run inside, by `exec`. One cluster at a time; root is needed.
#
# The programs come from `scripts/setup.sh kubernetes cluster`. With HPA=1 it has metrics-server too, of `scripts/setup.sh metrics`, and
# a HorizontalPodAutoscaler looks at it every 5 s and waits 30 s before it takes pods away (default: 15 s and 300 s).
set -euo pipefail

self=$(readlink -f "${BASH_SOURCE[0]}")
cache=${ALDIS_CACHE:-$HOME/.cache/aldis}
run=$cache/cluster-run pki=$cache/cluster-run/pki
node=node1
# Test ranges: nothing real answers there.
node_ip=198.51.100.1 pod_cidr=198.18.0.0/24 service_cidr=198.19.0.0/16 api_service=198.19.0.1 dns_service=198.19.0.10
export PATH=$cache/kubernetes/bin:$cache/cluster/bin:$PATH:/usr/sbin:/sbin KUBECONFIG=$run/admin.conf
# Where what runs beside the pods is reached by them.
export ALDIS_CLUSTER_NODE=$node_ip

alive() { [ -s "$run/pid" ] && grep -qs _init "/proc/$(cat "$run/pid")/cmdline"; }   # pid: that of unshare, the parent of init
inside() { # run a command in the cluster's namespaces (directly, where the caller is in them already)
  [ ! -e /run/k8s-inside ] || exec "$@"
  alive || { echo "cluster is not up" >&2; exit 1; }
  exec nsenter -t "$(ps -o pid= --ppid "$(cat "$run/pid")" | tr -d ' ')" --net --mount --pid --uts --ipc --wdns="$PWD" -- "$@"
}
wait_for() { local t=$1 i; shift; for ((i = 0; i < t * 10; i++)); do "$@" >/dev/null 2>&1 && return 0; sleep .1; done
             echo "timeout after ${t}s: $*" >&2; return 1; }
cert() { # cert NAME SUBJECT [SAN]
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$pki/$1.key" -subj "$2" -out "$pki/$1.csr" 2>/dev/null
  openssl x509 -req -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 3650 -out "$pki/$1.crt" \
    -extfile <(echo "extendedKeyUsage=serverAuth,clientAuth"; [ -z "${3-}" ] || echo "subjectAltName=$3") 2>/dev/null
}
user() { # user NAME SUBJECT: a client certificate and its kubeconfig
  cert "$1" "$2"; cat >"$run/$1.conf" <<Y
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $pki/ca.crt}}]
users: [{name: u, user: {client-certificate: $pki/$1.crt, client-key: $pki/$1.key}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
Y
}
pki() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$pki/ca.key" -out "$pki/ca.crt" -days 3650 -subj /CN=k8s-ca 2>/dev/null
  openssl ecparam -name prime256v1 -genkey -noout -out "$pki/sa.key" 2>/dev/null   # SEC1: a PKCS#8 EC key is refused
  cert apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$node_ip,IP:$api_service"
  cert kubelet-server "/CN=$node" "DNS:$node,IP:$node_ip"
  cert api2kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
  cert front-proxy /CN=front-proxy
  user admin /O=system:masters/CN=admin
  user kcm /CN=system:kube-controller-manager
  user scheduler /CN=system:kube-scheduler
  user proxy /CN=system:kube-proxy
  user kubelet "/O=system:nodes/CN=system:node:$node"
}
import() { inside ctr -n k8s.io images import - ; }
program() { "$(dirname "$self")/image.py" "localhost/$2:1" "$cache/$1/rootfs/$2" "/$2" | (import); }   # program PART NAME: an image of it alone
configs() {
  : >"$run/resolv.conf"   # no upstream DNS
  cat >"$run/containerd.toml" <<Y
version = 2
root = "$run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true   # root has no CAP_SYS_RESOURCE here: lowering oom_score_adj kills runc init
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$run/cni"
Y
  cat >"$run/cni/10-bridge.conflist" <<Y
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pod_cidr"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
Y
  cat >"$run/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet-server.crt
tlsPrivateKeyFile: $pki/kubelet-server.key
clusterDNS: [$dns_service]
clusterDomain: cluster.local
resolvConf: $run/resolv.conf
volumePluginDir: $run/flexvolume
syncFrequency: 5s
imageGCHighThresholdPercent: 100   # images that no registry can give back must not be collected
evictionHard: {memory.available: 100Mi, nodefs.available: 1Gi, imagefs.available: 1Gi}
Y
  cat >"$run/proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $run/proxy.conf}
clusterCIDR: $pod_cidr
hostnameOverride: $node
conntrack: {maxPerCore: 0, min: 0}   # nf_conntrack_max is read-only outside the first network namespace
Y
}
start() { local n=$1; shift; "$@" >"$run/log/$n.log" 2>&1 & echo "$n pid $!"; }
init() { # pid 1 of the namespaces
  hostname $node
  mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib/cni; mount -t tmpfs tmpfs /var/lib/kubelet; mount --bind "$run/log" /var/log
  touch /run/k8s-inside
  local f v   # the kubelet sets these sysctls of the whole machine: show it files that already hold what it wants
  for f in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    v=/run/sysctl-$(basename "${f%=*}"); echo "${f#*=}" >"$v"; mount --bind "$v" "/proc/sys/${f%=*}"
  done
  ip link set lo up
  ip link add node0 type bridge; ip addr add $node_ip/24 dev node0; ip link set node0 up   # this kernel has no dummy driver
  ip route add $service_cidr dev node0   # a destination without any route fails before DNAT sees it
  sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1   # of this network namespace
  start etcd etcd --data-dir "$run/etcd" --unsafe-no-fsync
  start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address=$node_ip --allow-privileged=true \
    --service-cluster-ip-range=$service_cidr --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-key-file="$pki/sa.key" --service-account-signing-key-file="$pki/sa.key" \
    --kubelet-client-certificate="$pki/api2kubelet.crt" --kubelet-client-key="$pki/api2kubelet.key" --kubelet-certificate-authority="$pki/ca.crt" \
    --kubelet-preferred-address-types=InternalIP --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key"
  start containerd containerd --config "$run/containerd.toml"
  wait_for 30 ctr version
  program cluster pause; program cluster coredns
  local scaling=()
  if [ "${HPA-}" = 1 ]; then
    program metrics metrics-server
    scaling=(--horizontal-pod-autoscaler-sync-period=5s --horizontal-pod-autoscaler-downscale-stabilization=30s)
  fi
  wait_for 90 curl -sfk https://127.0.0.1:6443/readyz
  start kcm kube-controller-manager --kubeconfig="$run/kcm.conf" --leader-elect=false --bind-address=127.0.0.1 --use-service-account-credentials=true \
    --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --flex-volume-plugin-dir="$run/flexvolume" --kube-api-qps=500 --kube-api-burst=500 "${scaling[@]}"
  start scheduler kube-scheduler --kubeconfig="$run/scheduler.conf" --leader-elect=false --bind-address=127.0.0.1
  start kubelet kubelet --config="$run/kubelet.yaml" --kubeconfig="$run/kubelet.conf" --root-dir="$run/kubelet" --hostname-override=$node --node-ip=$node_ip
  start proxy kube-proxy --config="$run/proxy.yaml"
  dns; [ "${HPA-}" != 1 ] || kubectl apply -f "$(dirname "$self")/../tests/kubernetes/metrics/metrics-server.yaml"
  wait_for 60 kubectl wait --for=condition=Ready node/$node --timeout=60s; echo "node ready after ${SECONDS}s"
  kubectl -n kube-system rollout status deploy/coredns --timeout=60s
  wait_for 60 kubectl -n default get serviceaccount default
  touch "$run/started"
  local gone; while :; do gone=; wait -n -p gone || true; [ -n "$gone" ] || exit 1; echo "component with pid $gone ended"; done
}
dns() { kubectl apply -f - <<Y
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data: {Corefile: ".:53 {\n errors\n health\n ready\n kubernetes cluster.local in-addr.arpa ip6.arpa\n cache 5\n}\n"}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: $dns_service, selector: {k8s-app: kube-dns}, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system}
spec:
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      containers:
      - {name: c, image: "localhost/coredns:1", imagePullPolicy: Never, args: [-conf, /c/Corefile], volumeMounts: [{name: c, mountPath: /c}],
         readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 1}}
      volumes: [{name: c, configMap: {name: coredns}}]
Y
}
check() { # says what this machine does not permit; which a cluster needs
  local spaces=(unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc --propagation slave) d free
  [ "$(id -u)" = 0 ] || { echo "a kubelet needs root"; return 77; }
  "${spaces[@]}" true 2>/dev/null || { echo "namespaces (unshare) are not permitted"; return 77; }
  "${spaces[@]}" sh -c "mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir a b c d && mount -t overlay overlay -o lowerdir=a,upperdir=b,workdir=c d" 2>/dev/null ||
    { echo "tmpfs and overlay can not be mounted"; return 77; }
  for d in cpu memory pids; do
    [ -d "/sys/fs/cgroup/$d" ] || { echo "there is no cgroup v1 hierarchy of $d (with cgroup v2 it has not been tried)"; return 77; }
    mkdir "/sys/fs/cgroup/$d/aldis-check.$$" 2>/dev/null || { echo "no cgroup can be made in /sys/fs/cgroup/$d"; return 77; }
    rmdir "/sys/fs/cgroup/$d/aldis-check.$$"
  done
  if command -v ip >/dev/null && command -v nft >/dev/null; then   # they come with setup.sh cluster
    "${spaces[@]}" sh -c "ip link add check0 type bridge && ip link add check1 type veth peer name check2 && nft add table ip check" 2>/dev/null ||
      { echo "no bridge, pair of interfaces or nftables' table can be made in a network namespace"; return 77; }
  fi
  free=$(($(awk '/^MemAvailable/ {print $2}' /proc/meminfo) / 1024))
  [ "$free" -ge 3000 ] || { echo "3,000 MB of memory are needed for cluster, pods and tests, and $free MB are available"; return 77; }
  mkdir -p "$cache"; free=$(($(df -Pk "$cache" | awk 'END {print $4}') / 1024))
  [ "$free" -ge 3000 ] || { echo "3,000 MB are needed in $cache, and $free MB are free"; return 77; }
}
denied() { # why a cluster that did not come up could not, if this machine has refused something
  grep -hiE 'operation not permitted|permission denied|read-only file system|function not implemented|no such device' "$run"/log/*.log | tail -n 3
}
up() {
  if alive; then echo "already up"; return; fi
  down; mkdir -p "$pki" "$run"/{cni,log} /var/lib/cni /var/lib/kubelet; pki; configs
  setsid unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc --propagation slave bash "$self" _init </dev/null >"$run/log/init.log" 2>&1 &
  echo $! >"$run/pid"; wait_for 5 alive
  local i; for ((i = 0; i < 1500; i++)); do
    if [ -e "$run/started" ]; then echo "up; run clients by: $self exec CMD... (KUBECONFIG=$KUBECONFIG)"; return; fi
    alive || break; sleep .1
  done
  tail -n 5 "$run"/log/*.log >&2
  if denied >&2; then echo "cluster.sh: it did not come up, and the lines above say what this machine refused" >&2; return 77; fi
  return 1
}
down() {
  local d i p
  if alive; then   # init takes every process of its pid namespace with it, and is gone only after them
    p=$(ps -o pid= --ppid "$(cat "$run/pid")" | tr -d ' ' || cat "$run/pid"); kill -KILL "$p"; wait_for 30 test ! -e "/proc/$p"
  fi
  for d in /sys/fs/cgroup/*/kubepods; do   # the one thing that namespaces do not take with them
    for ((i = 0; i < 50; i++)); do [ -d "$d" ] || break; find "$d" -depth -type d -exec rmdir {} + 2>/dev/null || sleep .1; done
  done
  rm -rf "$run"; rmdir --ignore-fail-on-non-empty /var/lib/cni /var/lib/kubelet 2>/dev/null || true
}
v=${1-}; [ $# -eq 0 ] || shift
case $v in
  check | up | down) $v ;;
  status) inside ps -eo pid,rss,etimes,args --no-headers ;;
  kubectl) inside kubectl "$@" ;;
  exec) inside "$@" ;;
  import) import <"$1" ;;
  _init) init ;;
  *) sed -n 4p "$self" >&2; exit 64 ;;
esac
