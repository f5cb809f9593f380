"""What guests cost who take nothing of what they asked for, or say nothing at all. Prints a node's memory.

    guests.py subscribers PROGRAM             1,000 that read nothing, 50 a connection
    guests.py unpacking PROGRAM [STORED_BY]   10 Tails of one batch that unpacks to 66 MB; a program that refuses such a
                                              batch is given one that another has stored
    guests.py silent PROGRAM                  2,000 connections without a word
"""
import grpc, os, re, resource, shutil, socket, subprocess, sys, tempfile, threading, time
from troupe.v1 import event_bus_pb2 as pb, event_bus_pb2_grpc as rpc

resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
EARLIEST = pb.StartPosition(earliest=True)


class Node:
    def __init__(self, program, directory=None):
        self.program, self.directory = program, directory or tempfile.mkdtemp()
        self.process = subprocess.Popen(
            [program, "dev", "--data-dir", self.directory, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if found := re.search(r"127\.0\.0\.1:\d+", line):
                self.address = found.group()
                break
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def troupe(self, *arguments, **options):
        command = [self.program, *arguments, "--server", self.address, "--no-progress"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)

    def mib(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def bus(self, **options):
        options = [("grpc.use_local_subchannel_pool", 1), *options.items()]
        return rpc.EventBusServiceStub(grpc.insecure_channel(self.address, options=options))

    def end(self, keep=False):
        self.process.terminate()
        self.process.wait()
        if not keep:
            shutil.rmtree(self.directory)


def subscribers(program):
    node, calls, over = Node(program), [], threading.Event()
    node.troupe("topic", "create", "t", "-p", "4")
    node.troupe("bench", "produce", "t", "--records", "300k", "--size", "1KiB")
    before = node.mib()

    def requests(number):
        yield pb.SubscribeRequest(
            start=pb.SubscriptionOptions(topics=["t"], group=f"g{number}", start_position=EARLIEST))
        over.wait()

    for number in range(1_000):
        bus = bus if number % 50 else node.bus()
        calls.append(bus.Subscribe(requests(number)))
    time.sleep(15)
    print(f"{node.mib() - before:.0f} MiB for 1,000 stalled subscribers")
    for call in calls:
        call.cancel()
    over.set()
    time.sleep(20)
    print(f"{node.mib() - before:.0f} MiB 20 s after they have gone")
    node.end()


def unpacking(program, stored_by=None):
    node = Node(stored_by or program)
    node.troupe("topic", "create", "t", "--config", "max.message.bytes=100000000")
    node.troupe("topic", "create", "small")
    node.troupe("produce", "t", "-z", "zstd", "--batch-size", "70MiB", "--linger", "3s", "--buffer-memory", "200MiB",
                "--max-request-size", "100MiB", input=("a" * 99 + "\n") * 660_000, text=True)
    node.end(keep=True)
    node = Node(program, node.directory)
    before, peak, waits = node.mib(), 0, []
    tails = [node.bus(**{"grpc.max_receive_message_length": -1}).Tail(pb.TailRequest(topic="t", start=EARLIEST))
             for _ in range(10)]
    bus, until = node.bus(), time.monotonic() + 10
    while time.monotonic() < until:
        begun = time.monotonic()
        bus.Publish(pb.PublishRequest(topic="small", records=[pb.Record(value=b"x")]), timeout=30)
        waits.append(time.monotonic() - begun)
        peak = max(peak, node.mib())
        time.sleep(0.02)
    print(f"{peak - before:.0f} MiB for 10 stalled Tails; a publisher waited {max(waits) * 1e3:.0f} ms at most")
    for tail in tails:
        tail.cancel()
    node.end()


def silent(program):
    node = Node(program)
    time.sleep(1)
    host, port = node.address.split(":")
    before, descriptors, peak, begun = node.mib(), node.descriptors(), 0, time.monotonic()
    connections = [socket.create_connection((host, int(port)), timeout=5) for _ in range(2_000)]
    while node.descriptors() > descriptors and time.monotonic() < begun + 60:
        peak = max(peak, node.mib() - before)
        time.sleep(0.2)
    print(f"{node.descriptors() - descriptors} of {len(connections)} there after "
          f"{time.monotonic() - begun:.1f} s; {peak:.0f} MiB at most")
    node.end()


{"subscribers": subscribers, "unpacking": unpacking, "silent": silent}[sys.argv[1]](*sys.argv[2:])
