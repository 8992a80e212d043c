#!/usr/bin/env bash
# `make upgrade-test`: from the first packaged charts, tests/upgrade/*.tgz, to those of today and back, in a real cluster, under load.
#
# The first images are built from the commit that tests/upgrade/COMMIT names, once, into ${ALDIS_CACHE:-$HOME/.cache/aldis}/upgrade.
# That takes minutes, and the clone's history: a shallow clone has to be deepened first.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
cache=${ALDIS_CACHE:-$HOME/.cache/aldis}
target=${CARGO_TARGET_DIR:-$repo/target}
commit=$(<"$repo/tests/upgrade/COMMIT")
first=$cache/upgrade/$commit
test=(cargo nextest run --locked --workspace --run-ignored only -E 'test(upgraded_cluster)' --no-capture)

# The programs of the first charts. They share the folder of today's dependencies, so that most are compiled already.
build_first() {
  [ ! -e "$first/.done" ] || return 0
  if ! git -C "$repo" cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "upgrade-test.sh: this clone does not have commit $commit: git fetch --unshallow" >&2
    exit 69
  fi
  rm -rf "$first"
  mkdir -p "$first/src" "$first/bin"
  git -C "$repo" archive "$commit" | tar -x -C "$first/src"
  (cd "$first/src" && cargo build --locked --workspace --bin aldis-operator --bin aldis-gateway --bin aldis-health --target-dir "$target")
  cp "$target"/debug/aldis-{operator,gateway,health} "$first/bin/"
  touch "$first/.done"
}

# As that commit makes its images.
import_first() {
  local images component
  images=$(mktemp -d)
  for component in operator gateway; do
    "$first/src/scripts/rootfs.sh" "$images/$component" "$first/bin/aldis-$component" "$first/bin/aldis-health"
    "$first/src/scripts/image.py" "localhost/aldis-$component:first" "$images/$component" "$first/src/images/$component.Dockerfile" >"$images/$component.tar"
    "$repo/scripts/cluster.sh" import "$images/$component.tar" >&2
  done
  rm -rf "$images"
}

case ${1-} in
  "")
    build_first
    # After the first ones, which have the same names there.
    cargo nextest run --locked --workspace --no-run
    "$repo/scripts/with-cluster.sh" "$0" inside
    ;;
  inside)
    import_first
    "${test[@]}"
    ;;
  *)
    echo "usage: $0" >&2
    exit 64
    ;;
esac
