const grpc = require("@grpc/grpc-js"), loader = require("@grpc/proto-loader");
const [server, topic, contract] = process.argv.slice(2);
const definition = loader.loadSync("troupe/v1/event_bus.proto", { keepCase: true, defaults: true, longs: String, includeDirs: [contract] });
const { EventBusService } = grpc.loadPackageDefinition(definition).troupe.v1;
const bus = new EventBusService(server, grpc.credentials.createInsecure());
const records = [0, 1, 2].map((n) => ({ key: Buffer.from(`${n}`), value: Buffer.from(`hello ${n}`) }));
const tail = () => bus.Tail({ topic, start: { earliest: true }, until_end: true })
  .on("data", (answer) => answer.deliveries.forEach((d) => console.log(d.partition, d.offset, `${d.record.value}`)))
  .on("end", () => bus.close());
bus.Publish({ topic, records }, (error) => { if (error) throw error; tail(); });
