"""Publishes `line FIRST` to `line LAST - 1`, a hundred a call."""
import grpc, sys
from troupe.v1 import event_bus_pb2 as pb, event_bus_pb2_grpc as rpc

server, topic, first, last = sys.argv[1:]
bus = rpc.EventBusServiceStub(grpc.insecure_channel(server))
for start in range(int(first), int(last), 100):
    numbers = range(start, min(start + 100, int(last)))
    records = [pb.Record(key=b"%d" % n, value=b"line %d" % n) for n in numbers]
    bus.Publish(pb.PublishRequest(topic=topic, records=records))
