#!/usr/bin/env bash
# Installs what building and testing need beyond Rust, Java 17, Maven, Node 20, Go 1.24 and Python 3 with pip:
#
#   scripts/setup.sh [apt] [browser] [tools] [node] [kafka] [kubernetes]      (no part named: all)
#
#   apt    C compiler, make, pkg-config and OpenSSL's headers, which librdkafka's own build uses; redis-server and curl for
#          the tests (Debian packages)
#   browser  Chromium, which looks at the page of `aldis dev` (Debian package)
#   tools  cargo-deny and cargo-nextest, prebuilt                 pinned in scripts/tools.txt
#   node   the stock Socket.IO clients of the tests, and what drives the browser   pinned in tests/node/package-lock.json
#   kafka  Apache Kafka's jars for scripts/kafka.sh               pinned in tests/kafka/pom.xml
#   kubernetes  etcd, kube-apiserver, kubectl and helm, built     pinned in tests/kubernetes/go.mod
#
# The last one takes minutes the first time: `make test` has it built beside cargo. Where KUBEBUILDER_ASSETS names a folder
# with these programs, nothing is built.
#
# Everything but Debian's packages lands in ${ALDIS_CACHE:-$HOME/.cache/aldis}/{tools,node,kafka,kubernetes}, outside the clone, so that a
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

# install_packages PACKAGE...: by apt, once, as root
install_packages() {
  command -v apt-get >/dev/null || die "this is not Debian: install what your system calls $*"
  [ "$(id -u)" = 0 ] || die "root is needed once, for: apt-get install $*"
  say "apt: installing $*"
  (
    flock 9
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2
  ) 9>/tmp/aldis-apt.lock
}

apt_is_complete() {
  local command
  for command in cc c++ curl make pkg-config redis-server; do
    command -v "$command" >/dev/null || return 1
  done
  pkg-config --exists openssl
}

install_apt() {
  local packages=(build-essential curl pkg-config libssl-dev redis-server)
  apt_is_complete && return
  install_packages "${packages[@]}"
  apt_is_complete || die "apt: ${packages[*]} are installed, but pkg-config still finds no openssl"
}

install_browser() {
  command -v chromium >/dev/null || install_packages chromium
}

fill_tools() {
  need python3 "Python 3 with pip"
  python3 -m pip install --quiet --root-user-action=ignore --no-deps --target "$1" -r "$repo/scripts/tools.txt" >&2
}

fill_node() {
  need npm "Node.js 20"
  cp "$repo/tests/node/package.json" "$repo/tests/node/package-lock.json" "$repo/tests/node/.npmrc" "$1"
  (cd "$1" && npm ci --no-progress --loglevel=error >&2)
}

fill_kafka() {
  need mvn "Maven and Java 17"
  mvn -q -B -f "$repo/tests/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$1" -DincludeScope=runtime >&2
}

fill_kubernetes() {
  need go "Go 1.24 or later"
  # Unset, the API server would call itself v0.0.0-master, which clients do not take for any version.
  local version=v1.34.4 package=k8s.io/component-base/version
  mkdir "$1/bin"
  (
    cd "$repo/tests/kubernetes"
    GOFLAGS= CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false -o "$1/bin/" \
      -ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=34 -X $package.gitTreeState=clean" \
      k8s.io/kubernetes/cmd/{kube-apiserver,kubectl} go.etcd.io/etcd/server/v3 helm.sh/helm/v3/cmd/helm >&2
  )
  mv "$1/bin/server" "$1/bin/etcd"
}

install_kubernetes() {
  [ -z "${KUBEBUILDER_ASSETS:-}" ] || return 0
  part_of_cache kubernetes fill_kubernetes "$repo/tests/kubernetes/go.mod" "$repo/tests/kubernetes/go.sum"
}

[ $# -gt 0 ] || set -- apt browser tools node kafka kubernetes
for part in "$@"; do
  SECONDS=0
  case $part in
    apt) install_apt ;;
    browser) install_browser ;;
    tools) part_of_cache tools fill_tools "$repo/scripts/tools.txt" ;;
    node) part_of_cache node fill_node "$repo/tests/node/package.json" "$repo/tests/node/package-lock.json" ;;
    kafka) part_of_cache kafka fill_kafka "$repo/tests/kafka/pom.xml" ;;
    kubernetes) install_kubernetes ;;
    *) die "there is no part '$part': choose from apt, browser, tools, node, kafka, kubernetes" ;;
  esac
done
