#!/usr/bin/env bash
# Runs a command beside one real Apache Kafka, in ALDIS_TEST_KAFKA=host:port, which ends with it: with-kafka.sh COMMAND [ARGUMENT...]
# Tests of aldis-tests that only need a broker share that one; run without it, they start one themselves.
set -euo pipefail
if [ $# -lt 1 ]; then
  echo "usage: $0 COMMAND [ARGUMENT...]" >&2
  exit 64
fi
# Below the ports that the system gives to outgoing connections.
first=10000 last=19998
# Seconds that the broker may take to start.
patience=60

data=$(mktemp -d)
broker=
stop() {
  if [ -n "$broker" ]; then
    kill -KILL "$broker" 2>/dev/null || true
    wait "$broker" 2>/dev/null || true
  fi
  rm -rf "$data"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=$((first + 2 * (RANDOM % ((last - first) / 2))))
while is_open "$port" || is_open "$((port + 1))"; do port=$((port + 2)); done

"$(dirname "$0")/kafka.sh" "$data/broker" "$port" >/dev/null 2>"$data/stderr" &
broker=$!
until is_open "$port"; do
  if ! kill -0 "$broker" 2>/dev/null || [ "$SECONDS" -gt "$patience" ]; then
    echo "with-kafka.sh: Kafka does not start:" >&2
    cat "$data/stderr" >&2
    exit 69
  fi
  sleep 0.2
done
ALDIS_TEST_KAFKA=127.0.0.1:$port "$@"
