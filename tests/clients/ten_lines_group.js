const grpc = require("@grpc/grpc-js"), loader = require("@grpc/proto-loader");
const [server, topic, group, contract] = process.argv.slice(2);
const definition = loader.loadSync("troupe/v1/event_bus.proto", { keepCase: true, defaults: true, longs: String, includeDirs: [contract] });
const { EventBusService } = grpc.loadPackageDefinition(definition).troupe.v1;
const stream = new EventBusService(server, grpc.credentials.createInsecure()).Subscribe();
stream.write({ start: { topics: [topic], group, start_position: { earliest: true } } });
stream.on("data", ({ deliveries }) => {
  for (const { record } of deliveries) console.log(`${record.value}`);
  stream.write({ ack_ids: deliveries.map((delivery) => delivery.ack_id) });
});
