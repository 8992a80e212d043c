#!/usr/bin/env bash
# One real Apache Kafka (KRaft, broker and controller in one) for tests, in the foreground:
#
#   scripts/kafka.sh DATA_DIR PORT [CONTROLLER_PORT]
#
# It listens on ${KAFKA_HOST:-127.0.0.1}:PORT and, for itself, on CONTROLLER_PORT (default PORT + 1). The process becomes java, so its pid
# is the broker's: SIGTERM stops it, SIGKILL is a crash. Started again on the same DATA_DIR it goes on with what it had.
# KAFKA_PROPERTIES names a file whose settings are added and win; KAFKA_SCRAM (SCRAM-SHA-512=[name=…,password=…]) is a user that the
# first start makes. The jars come from `scripts/setup.sh kafka`. KAFKA_LOG_LEVEL (default warn) sets what it tells on standard error.
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: $0 DATA_DIR PORT [CONTROLLER_PORT]" >&2
  exit 64
fi
host=${KAFKA_HOST:-127.0.0.1} data=$1 port=$2 controller=${3:-$(($2 + 1))}
lib=${ALDIS_CACHE:-$HOME/.cache/aldis}/kafka
if [ ! -e "$lib/.stamp" ]; then
  echo "kafka.sh: no Kafka in $lib: run scripts/setup.sh kafka first" >&2
  exit 69
fi

mkdir -p "$data"
data=$(cd "$data" && pwd)
# Next to what one broker requires (replication of 1), the settings keep tests quick and small: no wait before a group's
# first assignment, one partition for each internal topic, a log cleaner that does not claim 128 MB, and a short session with
# the controller, whose end a broker that crashed has to wait for when it starts again.
cat >"$data/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://$host:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://$host:$port
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$data/log
num.partitions=4
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
log.cleaner.dedupe.buffer.size=4194304
P
# Of a setting that is there twice, the last counts.
if [ -n "${KAFKA_PROPERTIES:-}" ]; then cat "$KAFKA_PROPERTIES" >>"$data/server.properties"; fi

# The serial collector and the first compiler alone: a second less to start, and no threads that the tests have no cores for.
java=(java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto "-Dorg.slf4j.simpleLogger.defaultLogLevel=${KAFKA_LOG_LEVEL:-warn}" -cp "$lib/*")
if [ ! -e "$data/log/meta.properties" ]; then
  cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 1-22)
  # A leading dash would read as an option.
  "${java[@]}" -Xmx64m kafka.tools.StorageTool format --cluster-id "${cluster/#-/A}" --config "$data/server.properties" ${KAFKA_SCRAM:+--add-scram "$KAFKA_SCRAM"} >/dev/null
fi
exec "${java[@]}" -Xms64m -Xmx256m kafka.Kafka "$data/server.properties"
