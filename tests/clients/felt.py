"""What a client of another make feels: publishes to each partition all the time, by any node, until its input ends; then
prints each partition's longest time without an acknowledgement.

    felt.py SERVER,SERVER,... TOPIC PARTITIONS

A record is sent to each partition every 20 ms, by the nodes in turn, whatever became of the one before: what one waits for
is the cluster, and not this client's patience.
"""
import grpc, json, sys, threading, time
from troupe.v1 import event_bus_pb2 as pb, event_bus_pb2_grpc as rpc

INTERVAL, DEADLINE = 0.02, 20
servers, topic, partitions = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
options = [("grpc.max_reconnect_backoff_ms", 100), ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
buses = [rpc.EventBusServiceStub(grpc.insecure_channel(server, options)) for server in servers]
lock, last, gaps = threading.Lock(), {}, {partition: [] for partition in range(partitions)}


def answered(partition):
    def callback(call):
        if call.exception() is not None:
            return
        now = time.time()
        with lock:
            if partition in last and now - last[partition] >= 0.05:
                gaps[partition].append((last[partition], now))
            last[partition] = max(now, last.get(partition, 0))
    return callback


def publish():
    number = 0
    while True:
        for partition in range(partitions):
            record = pb.Record(value=b"%d" % number, partition=partition)
            request = pb.PublishRequest(topic=topic, records=[record])
            number += 1
            try:
                call = buses[number % len(buses)].Publish.future(request, timeout=DEADLINE)
                call.add_done_callback(answered(partition))
            except ValueError:
                return
        time.sleep(INTERVAL)


threading.Thread(target=publish, daemon=True).start()
while len(last) < partitions:
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.read()
ended = time.time()
with lock:
    for partition in range(partitions):
        gaps[partition].append((last[partition], max(ended, last[partition])))
    print(json.dumps({"gaps": [[[begin, end] for begin, end in gaps[partition]] for partition in range(partitions)]}), flush=True)
