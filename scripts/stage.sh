#!/usr/bin/env bash
# Runs one stage of `make test` and says how long it took: scripts/stage.sh NAME COMMAND [ARGUMENT...]
# With STAGE_LOG=FILE the line goes there too. Exits as the command does.
set -euo pipefail
name=$1
shift
printf '==> %s\n' "$name" >&2
start=${EPOCHREALTIME/[.,]/}
status=0
"$@" || status=$?
tenths=$(((${EPOCHREALTIME/[.,]/} - start) / 100000))
line=$(printf '%-12s %4d.%d s%s' "$name" $((tenths / 10)) $((tenths % 10)) "$([ "$status" = 0 ] || echo "  failed ($status)")")
printf '<== %s\n' "$line" >&2
[ -z "${STAGE_LOG:-}" ] || printf '%s\n' "$line" >>"$STAGE_LOG"
exit "$status"
