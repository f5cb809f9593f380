"""Three nodes of an earlier program become three of this one, node by node, under load.

    rolling.py EARLIER PROGRAM

While they do, in each of the four mixtures: lines are produced and read by members of both programs, every node is asked
to create a topic, commit an offset and tell it, and a node of each kind is killed. In the end each line stands in the log
once, both groups have read each line, and no committed offset has gone back.
"""
import collections, json, os, shutil, socket, subprocess, sys, tempfile, threading, time

RATE, REPLICATED = 2_000, ["-p", "6", "-r", "3"]
earlier, program = sys.argv[1:3]
directory = tempfile.mkdtemp()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


PORTS = {node: free_ports(3) for node in (1, 2, 3)}
ADDRESSES = {node: f"127.0.0.1:{ports[0]}" for node, ports in PORTS.items()}
SERVERS = ",".join(ADDRESSES.values())
VOTERS = ",".join(f"{node}@127.0.0.1:{ports[2]}" for node, ports in PORTS.items())


def start(node, binary):
    grpc, http, controller = PORTS[node]
    config = os.path.join(directory, f"{node}.toml")
    with open(config, "w") as file:
        file.write(f'''node.id = {node}
process.roles = "broker,controller"
log.dir = "{directory}/{node}"
cluster.id = "rolling"
controller.quorum.voters = "{VOTERS}"
listener = "127.0.0.1:{grpc}"
http.listener = "127.0.0.1:{http}"
controller.listener = "127.0.0.1:{controller}"
default.replication.factor = 3
min.insync.replicas = 2
''')
    said = open(os.path.join(directory, f"{node}.log"), "a")
    return subprocess.Popen([binary, "serve", "--config", config], stdin=subprocess.DEVNULL, stdout=said, stderr=said)


def ask(*arguments, binary=None, server=SERVERS, **options):
    command = [binary or program, *arguments, "--server", server, "--no-progress"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def must(*arguments, **options):
    done = ask(*arguments, **options)
    assert done.returncode == 0, (arguments, options, done.stdout, done.stderr)
    return done.stdout


def in_sync():
    for _ in range(300):
        done = ask("partition", "list", "-o", "jsonl")
        partitions = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode == 0 and partitions and all(len(each["inSyncReplicas"]) == 3 for each in partitions):
            return
        time.sleep(0.2)
    raise AssertionError(f"not in sync: {done.stdout} {done.stderr}")


class Lines:
    """What a process prints, line by line."""

    def __init__(self, *arguments, binary):
        command = [binary, *arguments, "--server", SERVERS, "--no-progress"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(os.path.join(directory, "members.log"), "a"), text=True)
        self.seen, self.reader = collections.Counter(), threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.seen[int(line)] += 1


class Source(threading.Thread):
    """Numbers, at a steady rate, into `troupe produce`."""

    def __init__(self, binary):
        super().__init__(daemon=True)
        command = [binary, "produce", "lines", "-K", ":", "--delivery-timeout", "60s", "--server", SERVERS, "--no-progress"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.count, self.over = 0, threading.Event()
        self.start()

    def run(self):
        begin = time.monotonic()
        while not self.over.is_set():
            while self.count < (time.monotonic() - begin) * RATE:
                self.process.stdin.write(f"{self.count}:{self.count}\n")
                self.count += 1
            self.process.stdin.flush()
            time.sleep(0.01)
        self.process.stdin.close()

    def end(self):
        self.over.set()
        self.join()
        said = self.process.stdout.read()
        assert self.process.wait() == 0, said


committed, serial = 0, 0


def through_every_node():
    """Each node and each program: a topic, a record, an offset committed and told by all nodes."""
    global committed, serial
    for binary in (earlier, program):
        for node, address in ADDRESSES.items():
            serial += 1
            must("topic", "create", f"made-{serial}", *REPLICATED, binary=binary, server=address)
            must("produce", "made-%d" % serial, binary=binary, server=address, input="x\n")
            assert must("consume", f"made-{serial}", "-e", binary=binary, server=address) == "x\n"
            must("topic", "delete", f"made-{serial}", "--yes", binary=binary, server=address)
            committed += 1
            must("group", "reset", "by-hand", "--topics", "lines:0", "--to", f"={committed}", "--yes", binary=binary, server=address)
            for other in ADDRESSES.values():
                told = json.loads(must("group", "describe", "by-hand", "-o", "json", server=other))
                offsets = [each["currentOffset"] for each in told["offsets"]]
                assert offsets == [committed], (committed, told)


nodes = {node: (start(node, earlier), earlier) for node in ADDRESSES}
try:
    for _ in range(100):
        if ask("topic", "create", "lines", *REPLICATED, binary=earlier).returncode == 0:
            break
        time.sleep(0.1)
    in_sync()
    sources = [Source(earlier)]
    members = {f"g-{kind}": Lines("consume", "lines", "-g", f"g-{kind}", "-f", "%v\n", "--offset-reset", "earliest", binary=binary)
               for kind, binary in (("earlier", earlier), ("new", program))}
    # Some records stand before any offset that is committed by hand.
    must("consume", "lines", "-b", "-n", "5000", "-f", "")
    through_every_node()
    for node in ADDRESSES:
        process, _ = nodes[node]
        process.terminate()
        assert process.wait(30) == 0, f"node {node} did not end cleanly"
        nodes[node] = (start(node, program), program)
        in_sync()
        through_every_node()
        for kind in {binary for _, binary in nodes.values()}:
            victim = next(each for each, (_, binary) in nodes.items() if binary == kind)
            nodes[victim][0].kill()
            nodes[victim][0].wait()
            time.sleep(2)
            nodes[victim] = (start(victim, kind), kind)
            in_sync()
        through_every_node()
        print(f"{node} of 3 nodes are of {program}: fine", flush=True)
    count = sum(source.end() or source.count for source in sources)
    stored = collections.Counter(int(line) for line in must("consume", "lines", "-e", "-f", "%v\n").splitlines())
    assert stored == collections.Counter(range(count)), (count, len(stored), [item for item in stored.items() if item[1] > 1][:5])
    for name, lines in members.items():
        for _ in range(300):
            if len(lines.seen) == count:
                break
            time.sleep(0.1)
        assert len(lines.seen) == count, f"{name}: {len(lines.seen)} of {count}"
        print(f"{name}: {count} lines, {sum(lines.seen.values()) - count} of them twice")
    print(f"{count} lines, each stored once")
    shutil.rmtree(directory)
finally:
    for process in [*(each for each, _ in nodes.values()), *(lines.process for lines in globals().get("members", {}).values())]:
        process.kill()
