package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"reparto/client"
)

// token shows itself with each call, and only over TLS.
type token string

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}

func (token) RequireTransportSecurity() bool { return true }

// TLS with a CA of one's own, and a token. A worker's connection is made in the
// same way, with grpc.NewClient and worker.DialOptions.
func ExampleWithTransportCredentials() {
	ca, err := os.ReadFile("ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(ca) {
		log.Fatal("no certificate in ca.pem")
	}
	c, err := client.Dial("balancer.example:9090",
		client.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS13})),
		client.WithDialOptions(grpc.WithPerRPCCredentials(token(os.Getenv("REPARTO_TOKEN")))))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	out, err := c.Submit(context.Background(), client.Task{Function: "sum", Payload: []byte("1,2,3")})
	fmt.Println(string(out.Result), err)
}
