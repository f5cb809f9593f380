import grpc, queue, sys
from troupe.v1 import event_bus_pb2 as pb, event_bus_pb2_grpc as rpc
server, topic, group = sys.argv[1:]
bus, out = rpc.EventBusServiceStub(grpc.insecure_channel(server)), queue.SimpleQueue()
earliest = pb.StartPosition(earliest=True)
out.put(pb.SubscribeRequest(start=pb.SubscriptionOptions(topics=[topic], group=group, start_position=earliest)))
for answer in bus.Subscribe(iter(out.get, None)):
    for delivery in answer.deliveries:
        print(delivery.record.value.decode(), flush=True)
    out.put(pb.SubscribeRequest(ack_ids=[delivery.ack_id for delivery in answer.deliveries]))
