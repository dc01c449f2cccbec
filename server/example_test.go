package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// Start a server on a free port, ask it whether it is ready, and stop it. A server for photos of people has a Pack and
// no Recogniser; servertest.Faces needs no networks.
func Example() {
	dir, err := os.MkdirTemp("", "visage")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	srv, err := server.New(server.Config{Dir: dir, Listen: "127.0.0.1:0", Recogniser: servertest.Faces{}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
	case err := <-ended:
		log.Fatal(err)
	}

	// The first start has created an authority of its own for TLS.
	authority, err := os.ReadFile(srv.Operator().CAFile)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	res, err := client.Get(srv.Endpoint() + "/healthz")
	if err != nil {
		log.Fatal(err)
	}
	answer, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s", res.Status, answer)
	client.CloseIdleConnections()

	stop()
	fmt.Println("stopped:", <-ended)
	// Output:
	// 200 OK: ok
	// stopped: <nil>
}
