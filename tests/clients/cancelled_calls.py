"""Gives up a thousand calls at once, with stock gRPC, beside a stream on the same connection.

Usage: cancelled_calls.py HOST:PORT TOPIC. Prints what the stream brings after that.
"""

import queue
import sys
import threading

import grpc
from troupe.v1 import event_bus_pb2 as pb
from troupe.v1 import event_bus_pb2_grpc as rpc

CALLS = 1000

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.use_local_subchannel_pool", 1)])
bus = rpc.EventBusServiceStub(channel)
request = pb.TailRequest(topic=sys.argv[2])
tail = bus.Tail(request)
# The stream is open when its headers have come.
tail.initial_metadata()
news = queue.Queue()


def read():
    try:
        for answer in tail:
            for delivery in answer.deliveries:
                news.put(delivery.record.value.decode())
    except grpc.RpcError as error:
        news.put(f"{error.code().name}: {error.details()}")


threading.Thread(target=read, daemon=True).start()
for _ in range(CALLS):
    bus.Tail(request).cancel()
bus.Publish(pb.PublishRequest(topic=sys.argv[2], records=[pb.Record(value=b"news")]))
print(news.get(timeout=60))
