import grpc, sys
from troupe.v1 import event_bus_pb2 as pb, event_bus_pb2_grpc as rpc
server, source, target = sys.argv[1:]
bus = rpc.EventBusServiceStub(grpc.insecure_channel(server))
options = pb.SubscriptionOptions(topics=[source], group="shouters", start_position={"earliest": True}, max_processing_time={"seconds": 3})
while read := bus.Pull(pb.PullRequest(options=options)).deliveries:
    loud = pb.TopicRecords(topic=target, records=[{"key": it.record.key, "value": it.record.value.upper()} for it in read])
    bus.PublishAtomically(pb.PublishAtomicallyRequest(topics=[loud], ack_ids=[it.ack_id for it in read]))
    print("done", len(read), flush=True)
