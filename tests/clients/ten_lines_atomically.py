import grpc, sys
from troupe.v1 import event_bus_pb2 as pb, event_bus_pb2_grpc as rpc
server, order, *topics = sys.argv[1:]
bus = rpc.EventBusServiceStub(grpc.insecure_channel(server))
records = [pb.Record(key=order.encode(), value=b"booked")]
written = [pb.TopicRecords(topic=topic, records=records) for topic in topics]
done = bus.PublishAtomically(pb.PublishAtomicallyRequest(topics=written, transaction_key=order))
print("done before" if done.already_done else [it.results[0].offset for it in done.topics])
