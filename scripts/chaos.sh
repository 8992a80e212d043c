#!/usr/bin/env bash
# Chaos, one process a seed, beside each other's work (nice): chaos.sh
#
#   SEED=n             one seed
#   SEEDS=n            seeds 1 to n, without those that docs/reliability.md has a passing row for
#   CHAOS_SECONDS=60   for how long things go wrong
#   CHAOS_FAULTS=a,b   a drill: these faults alone, close together (names: tests/src/chaos/schedule.rs); has no row
#   SABOTAGE=Rule      with a rule of gateway/src/sabotage.rs switched off; has no row
#   PEER=node          Socket.IO's own server in place of gateways; all clients are stock then
#   CHAOS_STOCK=6      stock clients at each channel
#   CHAOS_LIGHT=12     light clients at each channel
#   CHAOS_TWINS=0      clients at each channel that come back twice at once
#   CHAOS_REPEATS=     where it says anything, clients that poll are behind a proxy that loses the first answer to each poll
#   CHAOS_HISTORY=2000 deliveries that each room keeps
#   CHAOS_EXECUTABLE=  the test executable, where it is built already
#
# Each other seed appends its row to docs/reliability.md; what clients saw and gateways logged is kept in CHAOS_EVIDENCE (default: a
# folder in TMPDIR), by seed. Ends with 1 where a seed failed.
set -euo pipefail
cd "$(dirname "$0")/.."
test=tests::chaos::chaos_of_one_seed
page=docs/reliability.md
# Seconds that a seed may take beside those in which things go wrong: to start, and to heal.
patience=300

if [ -n "${SEED:-}" ]; then
  seeds=$SEED
else
  seeds=$(seq 1 "${SEEDS:-1}")
fi
export CHAOS_SECONDS=${CHAOS_SECONDS:-60}

# The test executable, as cargo names it; run by itself, so that a run has its own time.
executable=${CHAOS_EXECUTABLE:-$(cargo nextest list --locked --workspace --list-type binaries-only --message-format json 2>/dev/null |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["rust-binaries"]["aldis-tests"]["binary-path"])')}

failed=()
for seed in $seeds; do
  if [ -z "${SEED:-}" ] && grep -qE "^\| $seed \|.*\| pass \|$" "$page"; then
    continue
  fi
  echo "==> seed $seed"
  SEED=$seed timeout $((CHAOS_SECONDS + patience)) nice "$executable" --exact "$test" --ignored --nocapture || failed+=("$seed")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "chaos.sh: these seeds failed: ${failed[*]}. SEED=n repeats one." >&2
  exit 1
fi
