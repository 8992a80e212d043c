#!/usr/bin/env bash
# `make images`: both images, by buildah, which needs neither a daemon nor a registry nor rights that a container lacks:
#
#   scripts/images.sh DIR [PROFILE]     DIR/aldis-operator.tar and DIR/aldis-gateway.tar, of what cargo builds with that profile (release)
#
# `docker load` and `ctr images import` take them, as localhost/aldis-operator:VERSION and localhost/aldis-gateway:VERSION. What
# buildah does is the last stage of images/*.Dockerfile as it stands there; the first, which compiles, is done by cargo here. Each is then
# compared with what scripts/image.py makes of the same files: they are the same image, or this fails.
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: $0 DIR [PROFILE]" >&2
  exit 64
fi
repo=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
profile=${2:-release}
built=${CARGO_TARGET_DIR:-$repo/target}/$([ "$profile" = dev ] && echo debug || echo "$profile")
command -v buildah >/dev/null || { echo "images.sh: buildah is missing: scripts/setup.sh buildah" >&2; exit 69; }

(cd "$repo" && cargo build --locked --workspace --profile "$profile" --bin aldis-operator --bin aldis-gateway --bin aldis-health)
version=$("$built/aldis-operator" --version | cut -d' ' -f2)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
buildah=(buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs)
mkdir "$work/empty"
for component in operator gateway; do
  name=localhost/aldis-$component:$version dockerfile=$repo/images/$component.Dockerfile stage=$work/$component
  "$repo/scripts/rootfs.sh" "$stage/rootfs" "$built/aldis-$component" "$built/aldis-health"
  sed -n '/^FROM scratch$/,$p' "$dockerfile" >"$stage/Dockerfile"
  # The stage that it copies from is this folder; HEALTHCHECK is only of docker's format.
  "${buildah[@]}" build --quiet --isolation chroot --format docker --timestamp 0 --build-context "build=$stage" -t "$name" -f "$stage/Dockerfile" "$work/empty" >/dev/null
  rm -f "$out/aldis-$component.tar"
  "${buildah[@]}" push --quiet "$name" "docker-archive:$out/aldis-$component.tar:$name"
  "$repo/scripts/image.py" "$name" "$stage/rootfs" "$dockerfile" >"$stage/tar"
  "$repo/scripts/same-image.py" "$out/aldis-$component.tar" "$stage/tar"
  printf '%s  %s (%s)\n' "$out/aldis-$component.tar" "$name" "$(du -h "$out/aldis-$component.tar" | cut -f1)"
done
