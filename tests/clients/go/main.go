// Publishes `0` to `COUNT - 1`, one a call, as a stock client does that is set up by a service config alone: it watches
// the service's health, and what is UNAVAILABLE it tries again unseen. No stubs: the two messages are small.
//
//	client SERVER TOPIC COUNT
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": "troupe.v1.EventBusService"},
	"methodConfig": [{
		"name": [{"service": "troupe.v1.EventBusService"}],
		"retryPolicy": {
			"maxAttempts": 5, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}]
}`

// raw passes messages on as they are.
type raw struct{}

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }
func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "proto" }

// publishRequest is a PublishRequest of one record.
func publishRequest(topic, value string) []byte {
	record := protowire.AppendTag(nil, 2, protowire.BytesType)
	record = protowire.AppendString(record, value)
	request := protowire.AppendTag(nil, 1, protowire.BytesType)
	request = protowire.AppendString(request, topic)
	request = protowire.AppendTag(request, 2, protowire.BytesType)
	return protowire.AppendBytes(request, record)
}

func main() {
	server, topic := os.Args[1], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	check(err)
	connection, err := grpc.NewClient("passthrough:///"+server,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	check(err)
	defer connection.Close()
	outcomes := map[codes.Code]int{}
	for n := range count {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		request, answer := publishRequest(topic, strconv.Itoa(n)), []byte{}
		err := connection.Invoke(ctx, "/troupe.v1.EventBusService/Publish", &request, &answer)
		cancel()
		outcomes[status.Code(err)]++
		if err != nil && status.Code(err) != codes.Unavailable {
			fmt.Fprintln(os.Stderr, n, err)
		}
		if err == nil {
			fmt.Println(n)
		}
	}
	fmt.Fprintln(os.Stderr, outcomes)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
