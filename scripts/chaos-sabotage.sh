#!/usr/bin/env bash
# Shows that chaos can fail: each of these rules is switched off in turn, with faults that need it, and the checker has to find what
# clients saw of that. Ends with 1 where it does not. SABOTAGES="Rule ..." tries these alone.
set -euo pipefail
cd "$(dirname "$0")/.."
# Seconds of faults of each.
export CHAOS_SECONDS=${CHAOS_SECONDS:-25}
# Of each rule: the faults that need it (all where none are named), and how much rooms keep.
declare -A faults=(
  [OneOrder]=cut,cut-all [Gate]=cut,cut-all,kill [Upgrade]=cut,cut-all [Stall]=cut [Polling]=drain
  [OnlyPermanentRefusals]=redis-restart,kill,cut-all [Generation]=cut,kill,pause [CompleteOrTold]=kill,pause,cut-all
  [Prev]=redis-cut [Epoch]=redis-rollback,redis-empty [Subscription]=redis-cut [StartAt]=redis-rollback,redis-empty
  [Lease]=kill [Marks]=redis-rollback
)
declare -A history=([CompleteOrTold]=5)
declare -A seeds=([Epoch]=4 [StartAt]=4 [Marks]=4)
unnoticed=()
for rule in ${SABOTAGES:-OneOrder Gate Upgrade Stall OnlyPermanentRefusals Generation CompleteOrTold Prev Epoch Subscription StartAt}; do
  said=$(SABOTAGE=$rule CHAOS_FAULTS=${faults[$rule]:-} CHAOS_HISTORY=${history[$rule]:-} SEED=${seeds[$rule]:-1} scripts/chaos.sh 2>&1) || true
  if grep -q '^verdict: broken' <<<"$said"; then
    echo "$rule: noticed: $(grep -E '^ +(lost|duplicated|reordered|crossed|falsely_recovered|needlessly_not|silent|refused): [1-9]' <<<"$said" | tr -s ' \n' ' ')"
  else
    echo "$rule: NOT noticed"
    unnoticed+=("$rule")
  fi
done
if [ ${#unnoticed[@]} -gt 0 ]; then
  echo "chaos-sabotage.sh: the checker has not noticed: ${unnoticed[*]}" >&2
  exit 1
fi
