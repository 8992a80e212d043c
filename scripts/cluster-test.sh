#!/usr/bin/env bash
# The last stage of `make test`: the tests that need a real cluster, in one that is made for them and ends with them.
#
# Where this machine does not permit a cluster it says why, and is skipped; `make cluster-test` is not. What fails in a cluster that
# came up is tried once more in a new one: what then passes is shown as such, and is to be looked into.
set -euo pipefail
scripts=$(dirname "$0")
test=(cargo nextest run --locked --workspace --run-ignored only -E 'test(real_cluster)' --no-capture)

skip() {
  echo "SKIPPED: no cluster can be made here: $1" >&2
  exit 0
}
permitted() {
  local status=0 reason
  reason=$("$scripts/cluster.sh" check) || status=$?
  case $status in
    0) ;;
    77) skip "$reason" ;;
    *) exit "$status" ;;
  esac
}

permitted
# Its programs are of one build: those of KUBEBUILDER_ASSETS are not.
env -u KUBEBUILDER_ASSETS "$scripts/setup.sh" kubernetes cluster
# Once more, with the programs that it now has to try with.
permitted
for attempt in 1 2; do
  status=0
  "$scripts/with-cluster.sh" "${test[@]}" || status=$?
  case $status in
    0) exit 0 ;;
    77) skip "see above what was not permitted" ;;
    130 | 143) exit "$status" ;;
  esac
  echo "the cluster's tests ended with $status, attempt $attempt of 2" >&2
done
exit "$status"
