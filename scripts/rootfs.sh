#!/usr/bin/env bash
# Everything that is in an image, in a folder: scripts/rootfs.sh DIR BINARY...
#
#   /NAME                                  each binary, stripped
#   /lib64/ld-linux-…, /lib/…, /usr/lib/…  the shared libraries that they are linked with, where the loader looks for them
#   /etc/ssl/certs/ca-certificates.crt     whom TLS trusts beyond what is configured
#
# Both images/*.Dockerfile and scripts/image.py take it from here: there is one list.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 DIR BINARY..." >&2
  exit 64
fi
dir=$1
shift
mkdir -p "$dir"
for binary in "$@"; do
  strip -o "$dir/$(basename "$binary")" "$binary"
  # A name with a path, or a path alone for the loader; what has neither is in the kernel.
  ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
    mkdir -p "$dir$(dirname "$library")"
    cp -L "$library" "$dir$library"
  done
done
certificates=/etc/ssl/certs/ca-certificates.crt
if [ ! -s "$certificates" ]; then
  echo "rootfs.sh: there is no $certificates: install ca-certificates" >&2
  exit 69
fi
mkdir -p "$dir/etc/ssl/certs"
cp -L "$certificates" "$dir$certificates"
