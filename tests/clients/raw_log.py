"""Produces through the generated stubs, then decodes the bytes of the segment files with the generated
code and compares record by record. Knows nothing of Troupe's code: the contract alone.

    raw_log.py SERVER DATA_DIRECTORY TOPIC

Uncompressed batches by the thin API and by the full one, compressed ones by the full one (gzip: it is in
the standard library). Prints how many records were equal; exits with 1 at the first that is not.
"""

import glob
import random
import sys
import zlib

import grpc
from troupe.admin.v1 import topic_service_pb2 as admin, topic_service_pb2_grpc as admin_rpc
from troupe.log.v1 import log_service_pb2 as log, log_service_pb2_grpc as log_rpc
from troupe.log.v1 import record_batch_pb2 as batches
from troupe.v1 import event_bus_pb2 as bus, event_bus_pb2_grpc as bus_rpc

server, data_directory, topic = sys.argv[1:]
channel = grpc.insecure_channel(server)
GZIP = 1
CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    CRC_TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def samples(count, seed):
    """(key, value, headers, timestamp): nulls, empties, any bytes, headers twice."""
    chance = random.Random(seed)
    some = lambda: chance.choice([None, b"", chance.randbytes(chance.randrange(1, 200))])
    names = ["", "a", "a", "ключ"]
    for n in range(count):
        headers = [(chance.choice(names), some()) for _ in range(chance.randrange(4))]
        yield some(), some(), headers, 1_700_000_000_000 + n * 7 - chance.randrange(3)


def record_set(records, base_timestamp):
    content = batches.RecordSet()
    for n, (key, value, headers, timestamp) in enumerate(records):
        header_list = [batches.Header(key=name, value=content) for name, content in headers]
        content.records.add(
            offset_delta=n, timestamp_delta=timestamp - base_timestamp,
            key=key, value=value, headers=header_list)
    return content


def batch_of(records, attributes):
    timestamps = [timestamp for *_, timestamp in records]
    batch = batches.RecordBatch(
        last_offset_delta=len(records) - 1, base_timestamp=timestamps[0],
        max_timestamp=max(timestamps), record_count=len(records), attributes=attributes)
    content = record_set(records, timestamps[0])
    if attributes == GZIP:
        squeeze = zlib.compressobj(wbits=31)
        batch.compressed_records = squeeze.compress(content.SerializeToString()) + squeeze.flush()
    else:
        batch.records.CopyFrom(content)
    return batch


def produce():
    """What was acknowledged: offset -> (key, value, headers, timestamp)."""
    acknowledged = {}
    thin = list(samples(200, seed=1))
    answer = bus_rpc.EventBusServiceStub(channel).Publish(bus.PublishRequest(topic=topic, records=[
        bus.Record(key=key, value=value, timestamp_ms=timestamp,
                   headers=[bus.Header(key=name, value=content) for name, content in headers])
        for key, value, headers, timestamp in thin]))
    for record, result in zip(thin, answer.results, strict=True):
        acknowledged[result.offset] = record
    full = log_rpc.LogServiceStub(channel)
    for seed, attributes in [(2, 0), (3, GZIP), (4, 0), (5, GZIP)]:
        records = list(samples(100, seed))
        partition = log.TopicPartition(topic=topic, partition=0)
        answer = full.Produce(log.ProduceRequest(partitions=[
            log.PartitionProduce(partition=partition, batch=batch_of(records, attributes))]))
        result = answer.results[0]
        assert not result.HasField("error"), result.error
        for n, record in enumerate(records):
            acknowledged[result.base_offset + n] = record
    return acknowledged


def decode(path):
    """Every record of a segment file, as it stands there."""
    file = batches.RecordBatches()
    with open(path, "rb") as bytes_of_file:
        file.ParseFromString(bytes_of_file.read())
    for batch in file.batches:
        if batch.WhichOneof("payload") == "compressed_records":
            assert batch.attributes & 7 == GZIP, f"attributes {batch.attributes}"
            payload, content = batch.compressed_records, batches.RecordSet()
            content.ParseFromString(zlib.decompress(payload, wbits=31))
        else:
            content = batch.records
            payload = content.SerializeToString()
        assert crc32c(payload) == batch.payload_crc, f"checksum of the batch at {batch.base_offset}"
        assert len(content.records) == batch.record_count
        assert batch.record_count == batch.last_offset_delta + 1
        for record in content.records:
            optional = lambda holder, name: getattr(holder, name) if holder.HasField(name) else None
            yield batch.base_offset + record.offset_delta, (
                optional(record, "key"), optional(record, "value"),
                [(header.key, optional(header, "value")) for header in record.headers],
                batch.base_timestamp + record.timestamp_delta)


admin_rpc.TopicServiceStub(channel).CreateTopic(admin.CreateTopicRequest(name=topic, partitions=1))
acknowledged = produce()
files = sorted(glob.glob(f"{data_directory}/**/{topic}-0*/*.log", recursive=True))
assert files, f"no segment of {topic} below {data_directory}"
stored = {}
for file in files:
    for offset, record in decode(file):
        assert offset not in stored, f"offset {offset} stands twice"
        stored[offset] = record
assert stored.keys() == acknowledged.keys(), (len(stored), len(acknowledged))
for offset, record in acknowledged.items():
    assert stored[offset] == record, f"offset {offset}: {stored[offset]} is not {record}"
print(f"{len(stored)} records equal")
