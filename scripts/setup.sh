#!/usr/bin/env bash
# Installs what building and testing need beyond Rust, Java 17, Maven, Node 20, Go 1.24 and Python 3 with pip:
#
#   scripts/setup.sh [apt] [browser] [tools] [node] [peer] [kafka] [kubernetes] [cluster] [metrics] [buildah]
#                                                              (no part named: all but peer, cluster, metrics and buildah)
#
#   apt    C compiler, make, pkg-config and OpenSSL's headers, which librdkafka's own build uses; redis-server and curl for
#          the tests (Debian packages)
#   browser  Chromium, which looks at the page of `aldis dev` (Debian package)
#   tools  cargo-deny and cargo-nextest, prebuilt                 pinned in scripts/tools.txt
#   peer   Socket.IO's own server and kafkajs, for make chaos PEER=node     pinned in tests/peer/package-lock.json
#   node   the stock Socket.IO clients of the tests, and what drives the browser   pinned in tests/node/package-lock.json
#   kafka  Apache Kafka's jars for scripts/kafka.sh               pinned in tests/kafka/pom.xml
#   kubernetes  etcd, kube-apiserver, kubectl and helm, built     pinned in tests/kubernetes/go.mod
#
#   cluster  what scripts/cluster.sh runs beside these: Debian's containerd and CNI plugins, and kubelet, kube-proxy, scheduler,
#            controller manager, CoreDNS and the pause image, built; pinned there too
#   metrics  metrics-server, built, for `make cluster-test HPA=1`    pinned in tests/kubernetes/metrics/go.mod (Go 1.26)
#   buildah  builds images for make images (Debian package)
#
# Kubernetes and cluster take minutes the first time: `make test` has kubernetes built beside cargo. Where KUBEBUILDER_ASSETS names a folder
# with its programs, nothing is built for it.
#
# Everything but Debian's packages lands in ${ALDIS_CACHE:-$HOME/.cache/aldis}/NAME OF THE PART, outside the clone, so that a
# fresh clone starts warm. A part whose stamp carries the hash of its pins is skipped. Safe to run several times at once.
#
# The Node programs in tests/node find their modules through NODE_PATH=<cache>/node/node_modules, which make and the Rust
# tests set. Node honours it for require() only, not for import: those programs are CommonJS.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${ALDIS_CACHE:-$HOME/.cache/aldis}

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}
need() { command -v "$1" >/dev/null || die "$1 is missing: install $2 and run this again"; }

# part_of_cache NAME FILL PIN_FILE...: calls FILL with an empty folder, and puts that folder in place only when it is
# complete, so that an interrupted run leaves nothing half installed.
part_of_cache() {
  local name=$1 fill=$2 stamp
  shift 2
  stamp=$(cat "$@" | sha256sum | cut -d' ' -f1)
  is_current() { [ "$(cat "$cache/$name/.stamp" 2>/dev/null)" = "$stamp" ]; }

  is_current && return
  mkdir -p "$cache"
  (
    flock 9
    if is_current; then exit; fi # another run was faster
    say "$name: installing into $cache/$name"
    new=$(mktemp -d "$cache/.$name.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    "$fill" "$new"
    echo "$stamp" >"$new/.stamp"
    chmod 755 "$new"
    rm -rf "${cache:?}/$name"
    mv "$new" "$cache/$name"
    say "$name: done in $SECONDS s"
  ) 9>"$cache/.$name.lock"
}

apt_is_complete() {
  local command
  for command in cc c++ curl make pkg-config redis-server; do
    command -v "$command" >/dev/null || return 1
  done
  pkg-config --exists openssl
}

cluster_packages_are_complete() {
  local command
  for command in containerd runc nft iptables ip openssl; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || return 1
  done
  [ -x /usr/lib/cni/bridge ]
}

# install_packages CHECK PACKAGE...: nothing where CHECK finds all that it needs.
install_packages() {
  local check=$1 packages=("${@:2}")
  "$check" && return
  command -v apt-get >/dev/null || die "apt: this is not Debian: install what your system calls ${packages[*]}"
  [ "$(id -u)" = 0 ] || die "apt: root is needed once, for: apt-get install ${packages[*]}"
  say "apt: installing ${packages[*]}"
  (
    flock 9
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" >&2
  ) 9>/tmp/aldis-apt.lock
  "$check" || die "apt: ${packages[*]} are installed, and $check still misses something"
}

buildah_is_there() { command -v buildah >/dev/null; }

browser_is_there() { command -v chromium >/dev/null; }

fill_tools() {
  need python3 "Python 3 with pip"
  python3 -m pip install --quiet --root-user-action=ignore --no-deps --target "$1" -r "$repo/scripts/tools.txt" >&2
}

fill_node() {
  need npm "Node.js 20"
  cp "$repo/tests/node/package.json" "$repo/tests/node/package-lock.json" "$repo/tests/node/.npmrc" "$1"
  (cd "$1" && npm ci --no-progress --loglevel=error >&2)
}

fill_peer() {
  need npm "Node.js 20"
  cp "$repo/tests/peer/package.json" "$repo/tests/peer/package-lock.json" "$repo/tests/peer/.npmrc" "$1"
  (cd "$1" && npm ci --no-progress --loglevel=error >&2)
}

fill_kafka() {
  need mvn "Maven and Java 17"
  mvn -q -B -f "$repo/tests/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$1" -DincludeScope=runtime >&2
}

# go_build DIR PACKAGE...: programs of tests/kubernetes/go.mod.
go_build() {
  need go "Go 1.24 or later"
  # Unset, the API server would call itself v0.0.0-master, which clients do not take for any version.
  local version=v1.34.4 package=k8s.io/component-base/version
  (
    cd "$repo/tests/kubernetes"
    GOFLAGS= CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false -o "$1/" \
      -ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=34 -X $package.gitTreeState=clean" \
      "${@:2}" >&2
  )
}

fill_kubernetes() {
  mkdir "$1/bin"
  go_build "$1/bin" k8s.io/kubernetes/cmd/{kube-apiserver,kubectl} go.etcd.io/etcd/server/v3 helm.sh/helm/v3/cmd/helm
  mv "$1/bin/server" "$1/bin/etcd"
}

fill_cluster() {
  mkdir -p "$1/bin" "$1/rootfs/pause" "$1/rootfs/coredns"
  go_build "$1/bin" k8s.io/kubernetes/cmd/{kube-controller-manager,kube-scheduler,kubelet,kube-proxy} ./coredns
  mv "$1/bin/coredns" "$1/rootfs/coredns/"
  cc -O2 -static -o "$1/rootfs/pause/pause" "$repo/tests/kubernetes/pause.c"
}

# A module of its own: its client-go is a later one than that of the others.
fill_metrics() {
  need go "Go 1.26 or later"
  mkdir -p "$1/rootfs/metrics-server"
  (
    cd "$repo/tests/kubernetes/metrics"
    GOFLAGS= CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w" -o "$1/rootfs/metrics-server/" \
      sigs.k8s.io/metrics-server/cmd/metrics-server >&2
  )
}

install_kubernetes() {
  [ -z "${KUBEBUILDER_ASSETS:-}" ] || return 0
  part_of_cache kubernetes fill_kubernetes "$repo/tests/kubernetes/go.mod" "$repo/tests/kubernetes/go.sum"
}

[ $# -gt 0 ] || set -- apt browser tools node kafka kubernetes
for part in "$@"; do
  SECONDS=0
  case $part in
    apt) install_packages apt_is_complete build-essential curl pkg-config libssl-dev redis-server ;;
    browser) install_packages browser_is_there chromium ;;
    buildah) install_packages buildah_is_there buildah ;;
    tools) part_of_cache tools fill_tools "$repo/scripts/tools.txt" ;;
    node) part_of_cache node fill_node "$repo/tests/node/package.json" "$repo/tests/node/package-lock.json" ;;
    peer) part_of_cache peer fill_peer "$repo/tests/peer/package.json" "$repo/tests/peer/package-lock.json" ;;
    kafka) part_of_cache kafka fill_kafka "$repo/tests/kafka/pom.xml" ;;
    kubernetes) install_kubernetes ;;
    cluster)
      install_packages cluster_packages_are_complete containerd runc containernetworking-plugins nftables iptables iproute2 openssl
      part_of_cache cluster fill_cluster "$repo"/tests/kubernetes/{go.mod,go.sum,pause.c,coredns/main.go}
      ;;
    metrics) part_of_cache metrics fill_metrics "$repo"/tests/kubernetes/metrics/{go.mod,go.sum} ;;
    *) die "there is no part '$part': choose from apt, browser, tools, node, peer, kafka, kubernetes, cluster, metrics, buildah" ;;
  esac
done
