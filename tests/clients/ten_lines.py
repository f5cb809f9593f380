import grpc, sys
from troupe.v1 import event_bus_pb2 as pb, event_bus_pb2_grpc as rpc
server, topic = sys.argv[1:]
bus = rpc.EventBusServiceStub(grpc.insecure_channel(server))
records = [pb.Record(key=b"%d" % n, value=b"hello %d" % n) for n in range(3)]
bus.Publish(pb.PublishRequest(topic=topic, records=records))
start = pb.StartPosition(earliest=True)
for answer in bus.Tail(pb.TailRequest(topic=topic, start=start, until_end=True)):
    for delivery in answer.deliveries:
        print(delivery.partition, delivery.offset, delivery.record.value.decode())
