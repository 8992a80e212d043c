#!/usr/bin/env bash
# Runs a command inside a real Kubernetes cluster of one node that ends with it, whose node has the images
# localhost/aldis-operator:test and localhost/aldis-gateway:test of what cargo has built: with-cluster.sh COMMAND [ARGUMENT...]
# With HPA=1 the cluster has metrics-server too.
set -euo pipefail
if [ $# -lt 1 ]; then
  echo "usage: $0 COMMAND [ARGUMENT...]" >&2
  exit 64
fi
if [ "$(id -u)" != 0 ]; then
  echo "with-cluster.sh: a kubelet needs root" >&2
  exit 77
fi
repo=$(cd "$(dirname "$0")/.." && pwd)
scripts=$repo/scripts
built=${CARGO_TARGET_DIR:-$repo/target}/debug
# One at a time: its cgroups have one name. Only this script holds the lock, none of what it starts.
exec 9>"${TMPDIR:-/tmp}/aldis-cluster.lock"
flock -w 1800 9 || { echo "with-cluster.sh: another cluster runs for half an hour" >&2; exit 75; }
images=$(mktemp -d)
stop() {
  "$scripts/cluster.sh" down || true
  rm -rf "$images"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$scripts/cluster.sh" up >&2 9>&-
for component in operator gateway; do
  "$scripts/rootfs.sh" "$images/$component" "$built/aldis-$component" "$built/aldis-health"
  "$scripts/image.py" "localhost/aldis-$component:test" "$images/$component" "$repo/images/$component.Dockerfile" >"$images/$component.tar"
  "$scripts/cluster.sh" import "$images/$component.tar" >&2
done
"$scripts/cluster.sh" exec "$@" 9>&-
