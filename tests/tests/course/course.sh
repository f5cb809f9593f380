#!/bin/sh
# The commands of a course on Kafka, one after the other, on Troupe: three nodes from three server.properties, topics,
# records, groups; a fourth broker that comes and goes; replicas moved, added and placed by hand; files looked into;
# nodes stopped and started.
#
#   TROUPE=target/debug/troupe sh tests/tests/course/course.sh
#
# Every output is compared with what it should be: exit code 0, and all of it was right. Each node has its files in
# $COURSE_DIRECTORY (a new directory without that, which is removed at the end); $COURSE_PORTS are seven free ports.

set -u

TROUPE=$(realpath "${TROUPE:-troupe}")
PORTS=${COURSE_PORTS:-9092 9093 9094 9095 9096 9097 9098}
if [ -n "${COURSE_DIRECTORY:-}" ]; then
    cd "$COURSE_DIRECTORY" || exit 1
else
    NEW=$(mktemp -d) && cd "$NEW" || exit 1
fi

# ---------------------------------------------------------------------------------------- what is expected, and how

finish() {
    for id in 1 2 3 4; do
        [ -f "kafka-logs-$id/troupe.pid" ] && "$TROUPE" stop "server-$id.properties" >/dev/null 2>&1
    done
    if [ -n "${NEW:-}" ]; then rm -rf "$NEW"; fi
}
trap finish EXIT
trap 'exit 1' INT TERM

chapter() { echo; echo "# $*"; }

# Runs a command, and shows it. What it said is in $said, its exit code in $code.
run() {
    echo "$ troupe $*"
    code=0
    said=$("$TROUPE" "$@" 2>&1 <"${INPUT:-/dev/null}") || code=$?
    # Columns come with tabs between them in a pipe.
    said=$(printf '%s\n' "$said" | tr '\t' ' ')
    [ -z "$said" ] || printf '%s\n' "$said" | sed 's/^/    /'
}

fail() {
    echo "WRONG: $*"
    for id in 1 2 3 4; do
        [ ! -f "kafka-logs-$id/troupe.log" ] || { echo "--- the log of node $id"; tail -n 20 "kafka-logs-$id/troupe.log"; }
    done
    exit 1
}

says() { printf '%s\n' "$said" | grep -Eq -- "$1"; }

# expect PATTERN COMMAND...: it succeeds, and a line of it is so.
expect() {
    pattern=$1; shift
    run "$@"
    [ "$code" = 0 ] || fail "exit code $code"
    says "$pattern" || fail "no line is like: $pattern"
}

# refused PATTERN COMMAND...: it is refused (4), which is told so.
refused() {
    pattern=$1; shift
    run "$@"
    [ "$code" = 4 ] || fail "exit code $code, and it should be refused with 4"
    says "$pattern" || fail "no line is like: $pattern"
}

# eventually PATTERN COMMAND...: again and again until it is as expected, for a minute and more.
eventually() {
    pattern=$1; shift
    tries=0
    until run "$@" >attempt.txt; [ "$code" = 0 ] && says "$pattern"; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || { cat attempt.txt; fail "exit code $code; no line is like: $pattern"; }
        sleep 0.2
    done
    cat attempt.txt
}

# produce TOPIC: the lines of messages.txt are sent. As Kafka's, it says nothing when all went well.
produce() {
    INPUT=messages.txt
    expect '^$' produce "$1"
    INPUT=
}

# ------------------------------------------------------------------------------------------------------- the nodes

chapter "Three server.properties"

set -- $PORTS
[ $# = 7 ] || fail "COURSE_PORTS are seven ports"
CONTROLLERS="1@localhost:$2,2@localhost:$4,3@localhost:$6"
BOOTSTRAP=localhost:$1,localhost:$3,localhost:$5

# properties ID ROLES LISTENERS
properties() {
    cat >"server-$1.properties" <<END
############################# Server Basics #############################
broker.id=$1
process.roles=$2
controller.quorum.voters=$CONTROLLERS
controller.listener.names=CONTROLLER

############################# Socket Server Settings #############################
listeners=$3
num.network.threads=3
num.io.threads=8

############################# Log Basics #############################
log.dirs=$PWD/kafka-logs-$1
num.partitions=1

############################# Internal Topic Settings  #############################
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3

############################# Log Retention Policy #############################
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
END
}
properties 1 broker,controller "PLAINTEXT://localhost:$1,CONTROLLER://localhost:$2"
properties 2 broker,controller "PLAINTEXT://localhost:$3,CONTROLLER://localhost:$4"
properties 3 broker,controller "PLAINTEXT://localhost:$5,CONTROLLER://localhost:$6"
properties 4 broker "PLAINTEXT://localhost:$7"

run storage random-uuid
CLUSTER=$said
for id in 1 2 3; do
    expect "$CLUSTER" storage format --cluster-id "$CLUSTER" --config "server-$id.properties"
done
expect 'without effect.*num.io.threads' config check server-1.properties
expect "^num.partitions 1 server-1.properties:" config print server-1.properties --origin

chapter "Start them"
for id in 1 2 3; do
    expect '(serves|listens for) gRPC on' serve -daemon "server-$id.properties"
done
export TROUPE_SERVER="$BOOTSTRAP"
eventually '^healthy' cluster health
expect '^1 .*active' node list
says '^2 .*active' && says '^3 .*active' || fail "all three are active"

# ------------------------------------------------------------------------------------------------------- topics

chapter "Create, list, describe, alter"
expect 'created topic first: 1 partition, 3 replicas' \
    topic create first --partitions 1 --replication-factor 3 --bootstrap-server "$BOOTSTRAP"
refused TOPIC_EXISTS topic create first --partitions 1 --replication-factor 3
refused INVALID_REPLICATION_FACTOR topic create wide --partitions 1 --replication-factor 4
expect '^first 1 3$' topic list
expect '^0 [123] [123],[123],[123] [123],[123],[123] 0 0 ' topic describe first
expect 'topic first has now 3 partitions, 3 replicas' topic alter first --partitions 3
refused 'INVALID_PARTITIONS' topic alter first --partitions 2
expect '^2 [123] ' topic describe first
expect '^first 3 3$' topic list

chapter "Produce, and consume from the beginning"
for number in 1 2 3 4 5 6 7 8 9; do echo "message $number"; done >messages.txt
produce first
expect '^message 1$' consume first --from-beginning --max-messages 9
printf '%s\n' "$said" | sort >read.txt
cmp -s messages.txt read.txt || fail "what was consumed is not what was produced"

chapter "Groups: describe, and reset offsets"
expect '^message 9$' consume first --group readers --from-beginning --until-end
expect '^readers ' group list
expect '^readers Empty 0 3 0 ' group lag readers
expect '^readers first 0 ' group describe readers
expect 'first' group reset readers --topics first --to earliest --dry-run
expect '^readers Empty 0 3 0 ' group lag readers
expect 'first' group reset readers --topics first --to earliest --yes
expect '^readers Empty 0 3 9 ' group lag readers
expect '^message 9$' consume first --group readers --until-end
[ "$(printf '%s\n' "$said" | grep -c '^message')" = 9 ] || fail "all of it was to be read again"

chapter "Delete"
expect 'created topic second' topic create second --partitions 2 --replication-factor 2
expect 'deleted topic second' topic delete second --yes
expect '^first 3 3$' topic list
if says '^second '; then fail "second is deleted"; fi
run topic describe second
[ "$code" = 3 ] && says UNKNOWN_TOPIC || fail "there is no such topic any more"

# ------------------------------------------------------------------------------------------------------- brokers

chapter "A fourth broker comes: generate, execute, verify"
expect "$CLUSTER" storage format --cluster-id "$CLUSTER" server-4.properties
expect 'serves gRPC on' serve -daemon server-4.properties
eventually '^4 .*active' node list
echo '{"topics":[{"topic":"first"}],"version":1}' >topics.json
expect 'Proposed partition reassignment configuration' \
    reassign plan --topics-to-move-json-file topics.json --broker-list 1,2,3,4
expect '"version":1' reassign plan --topics first --to-nodes 1,2,3,4 -o json
printf '%s\n' "$said" | grep '^{' >plan.json
expect 'Current partition replica assignment' reassign execute plan.json
says 'Successfully started partition reassignments for first-0,first-1,first-2' || fail "all three have begun"
printf '%s\n' "$said" | grep '^{' >rollback.json
eventually 'first-2 is completed' reassign verify plan.json
expect '^[012] [1-4] ([123],)*4(,[123])* ' topic describe first

chapter "It goes again"
run node retire 4
[ "$code" = 0 ] || fail "exit code $code"
eventually 'node 4 is empty; stop it' node retire 4
expect 'has stopped' stop server-4.properties
eventually 'node 4 is empty and removed' node retire 4
expect '^1 ' node list
if says '^4 '; then fail "node 4 is forgotten"; fi
expect '^0 [123] [123],[123],[123] [123],[123],[123] ' topic describe first

chapter "Replication factor 1, and 3 by JSON"
expect 'created topic third: 1 partition, 1 replica' topic create third --partitions 1 --replication-factor 1
echo "kept" >messages.txt
produce third
cat >increase.json <<END
{"version":1,
 "partitions":[{"topic":"third","partition":0,"replicas":[2,1,3]}]}
END
expect 'third-0 is completed' reassign execute increase.json --wait
expect '^0 [123] 2,1,3 ([123],){2}[123] 0 1 ' topic describe third
expect 'third' partition elect --preferred third
eventually '^0 2 2,1,3 ' topic describe third
expect '^kept$' consume third --from-beginning --max-messages 1

chapter "Replicas placed by hand"
expect 'created topic placed: 3 partitions, 2 replicas' topic create placed --replica-assignment 1:2,2:3,3:1
expect '^0 1 1,2 1,2 ' topic describe placed
says '^1 2 2,3 2,3 ' && says '^2 3 3,1 ' || fail "each partition is where it was told to be"

# --------------------------------------------------------------------------------------------------- files, stops

chapter "Look into an index and a log"
expect 'created topic fourth' \
    topic create fourth --partitions 1 --replication-factor 3 --config index.interval.bytes=100
for number in 1 2 3; do
    head -c 300 /dev/zero | tr '\0' "$number" >messages.txt
    produce fourth
done
expect 'has stopped' stop server-3.properties
expect 'baseOffset: 2 ' log dump kafka-logs-3/fourth-0/00000000000000000000.log
expect 'payload: 333' log dump kafka-logs-3/fourth-0/00000000000000000000.log --print-data-log
expect 'offset: 2 position: [0-9]+' log dump kafka-logs-3/fourth-0/00000000000000000000.index

chapter "One is stopped: the others go on"
eventually '^0 [12] [123],[123],[123] [12],[12] 0 3 ' topic describe fourth
expect '^fourth ' partition list --under-replicated
echo "while one is away" >messages.txt
produce first
expect '^while one is away$' consume first --from-beginning --max-messages 10

chapter "It is started again, and catches up"
expect 'serves gRPC on' serve -daemon server-3.properties
eventually '^healthy' cluster health
eventually '^0 [123] [123],[123],[123] [123],[123],[123] 0 3 ' topic describe fourth

chapter "All are stopped"
for id in 3 2 1; do
    expect 'has stopped' stop "server-$id.properties"
done
for id in 1 2 3; do
    run stop "server-$id.properties"
    [ "$code" = 3 ] && says 'no node runs on' || fail "node $id was stopped already"
done

echo
echo "The course is done."
