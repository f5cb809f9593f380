"""How fast one subscriber with generated stubs reads and acknowledges what a topic holds.

    subscribe_rate.py SERVER TOPIC RECORDS [GROUP]
"""
import grpc, queue, sys, time
from troupe.v1 import event_bus_pb2 as pb, event_bus_pb2_grpc as rpc

server, topic, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
group = sys.argv[4] if len(sys.argv) > 4 else f"rate-{time.time_ns()}"
bus = rpc.EventBusServiceStub(grpc.insecure_channel(server))
out = queue.SimpleQueue()
out.put(pb.SubscribeRequest(start=pb.SubscriptionOptions(
    topics=[topic], group=group, start_position=pb.StartPosition(earliest=True),
    window=pb.Window(max_records=20_000, max_bytes=32 << 20))))
records = size = messages = 0
first = None
for answer in bus.Subscribe(iter(out.get, None)):
    if not answer.deliveries:
        continue
    first = first or time.perf_counter()
    messages += 1
    records += len(answer.deliveries)
    size += sum(len(delivery.record.value) for delivery in answer.deliveries)
    out.put(pb.SubscribeRequest(ack_ids=[delivery.ack_id for delivery in answer.deliveries]))
    if records >= wanted:
        break
seconds = time.perf_counter() - first
print(f"{records} records, {size} bytes of values in {messages} messages, {seconds:.2f} s: "
      f"{records / seconds:,.0f} records/s, {size / seconds / 1e6:.1f} MB/s")
