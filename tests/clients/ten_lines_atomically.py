import grpc, sys
from troupe.v1 import event_bus_pb2 as pb, event_bus_pb2_grpc as rpc
server, source, target, group = sys.argv[1:]
bus, earliest = rpc.EventBusServiceStub(grpc.insecure_channel(server)), pb.StartPosition(earliest=True)
options = pb.SubscriptionOptions(topics=[source], group=group, start_position=earliest)
while pulled := bus.Pull(pb.PullRequest(options=options)).deliveries:
    images = [pb.Record(key=one.record.key, value=one.record.value.upper()) for one in pulled]
    written, done = [pb.TopicRecords(topic=target, records=images)], [one.ack_id for one in pulled]
    bus.PublishAtomically(pb.PublishAtomicallyRequest(topics=written, ack_ids=done))
