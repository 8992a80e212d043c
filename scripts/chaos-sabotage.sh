#!/usr/bin/env bash
# Shows that chaos can fail: one rule of delivery after the other is switched off, with faults that need it, and clients have to see
# it. Before that, the same faults with all rules have to do no harm: what is found is for want of the rule. Ends with 1 where
# either is not so. SABOTAGES="Rule ..." tries these alone.
#
# Of the 22 rules these 11 are those that clients notice within seconds. Not among them:
#   Upgrade        only what is queued at the very moment of an upgrade is overtaken: chance has not brought that about
#   Stall          deliveries here are text, so that no packet is torn; a client that hears nothing leaves by itself
#   Identity, ChannelState, CheckFirst, Marks, Behind, PublishThroughKafka
#                  need another identity, a channel or topic made anew, something broken in Redis, or HTTP
#   PayloadOnce, Lease, Herd
#                  cost memory and time, and no delivery
# Each of those has a test of its own that fails without it (docs/delivery.md).
set -euo pipefail
cd "$(dirname "$0")/.."
export SEED=${SEED:-1}
if [ -z "${CHAOS_EXECUTABLE:-}" ]; then
  CHAOS_EXECUTABLE=$(cargo nextest list --locked --workspace --list-type binaries-only --message-format json 2>/dev/null |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["rust-binaries"]["aldis-tests"]["binary-path"])')
  export CHAOS_EXECUTABLE
fi

# Of each rule: for how long what goes wrong, and what else it needs.
declare -A drills=(
  [OneOrder]="CHAOS_SECONDS=8 CHAOS_FAULTS=cut,cut-all"
  # Clients are sent a text now and then, which is what they name when they come back.
  [OnlyPositionsAreStrings]="CHAOS_SECONDS=12 CHAOS_FAULTS=cut,cut-all"
  [Gate]="CHAOS_SECONDS=8 CHAOS_FAULTS=cut,cut-all"
  [Polling]="CHAOS_SECONDS=8 CHAOS_FAULTS=cut,cut-all CHAOS_REPEATS=yes"
  [OnlyPermanentRefusals]="CHAOS_SECONDS=10 CHAOS_FAULTS=few-rooms"
  [Generation]="CHAOS_SECONDS=14 CHAOS_FAULTS=configure CHAOS_TWINS=6 CHAOS_STOCK=0 CHAOS_LIGHT=2"
  # Rooms keep less than clients miss.
  [CompleteOrTold]="CHAOS_SECONDS=8 CHAOS_FAULTS=cut,cut-all CHAOS_HISTORY=5"
  [Prev]="CHAOS_SECONDS=8 CHAOS_FAULTS=cut,cut-all CHAOS_HISTORY=5"
  [Epoch]="CHAOS_SECONDS=12 CHAOS_FAULTS=redis-rollback"
  [Subscription]="CHAOS_SECONDS=10 CHAOS_FAULTS=redis-deaf"
  [StartAt]="CHAOS_SECONDS=12 CHAOS_FAULTS=forget-unseen"
)
order=(OneOrder OnlyPositionsAreStrings Gate Polling OnlyPermanentRefusals Generation CompleteOrTold Prev Epoch Subscription StartAt)

seen='lost|duplicated|reordered|crossed|falsely_recovered|needlessly_not|silent|refused'
declare -A harmless
failed=()
for rule in ${SABOTAGES:-${order[*]}}; do
  drill=${drills[$rule]:?"no drill needs this rule: $rule"}
  read -ra settings <<<"$drill"
  if [ -z "${harmless[$drill]:-}" ]; then
    said=$(env "${settings[@]}" scripts/chaos.sh 2>&1) || true
    if ! grep -q '^verdict: holds' <<<"$said"; then
      echo "$rule: the same faults do harm with all rules: $drill"
      grep -E "^ +($seen): [1-9]" <<<"$said" || tail -5 <<<"$said"
      failed+=("$rule")
      continue
    fi
    harmless[$drill]=yes
  fi
  said=$(env SABOTAGE="$rule" "${settings[@]}" scripts/chaos.sh 2>&1) || true
  if grep -q '^verdict: broken' <<<"$said"; then
    echo "$rule: noticed:$(grep -E "^ +($seen|deliveries): [1-9]" <<<"$said" | tr -s ' \n' ' ')($drill)"
  else
    echo "$rule: NOT noticed ($drill)"
    failed+=("$rule")
  fi
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "chaos-sabotage.sh: these show nothing: ${failed[*]}" >&2
  exit 1
fi
