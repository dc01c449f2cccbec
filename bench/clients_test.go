package bench_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// clientVariable holds an order and makes the program act as clients instead of a benchmark. Clients in the process of
// the service would share its garbage collector and processors with it, so they run in another process.
const clientVariable = "VISAGE_BENCH_CLIENTS"

// clientOrder tells clients what to ask.
type clientOrder struct {
	Address, CA      string
	Clients, Queries int      // queries of each client in a round
	Probes, Persons  []string // face ids, and the person on each
}

// clientRound is the result of one round.
type clientRound struct {
	Times []time.Duration
	Error string
}

// startClients starts this program again as clients. The returned function makes them run a round and returns how long
// each answer took.
func startClients(b *testing.B, order clientOrder) (round func() []time.Duration) {
	b.Helper()
	raw, err := json.Marshal(order)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), clientVariable+"="+string(raw))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatalf("start the clients: %v", err)
	}
	b.Cleanup(func() {
		in.Close() // they end with their input
		if err := cmd.Wait(); err != nil {
			b.Errorf("the clients: %v", err)
		}
	})
	answers := json.NewDecoder(out)
	return func() []time.Duration {
		b.Helper()
		var took clientRound
		_, err := fmt.Fprintln(in)
		if err == nil {
			err = answers.Decode(&took)
		}
		if err != nil || took.Error != "" {
			b.Fatalf("the clients: %v %s", err, took.Error)
		}
		return took.Times
	}
}

// beClients runs a round for every line of the input.
func beClients(raw string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var order clientOrder
	if err := json.Unmarshal([]byte(raw), &order); err != nil {
		fail(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(order.CA)) {
		fail(fmt.Errorf("the order has no certificate"))
	}
	client := &http.Client{Transport: &http.Transport{ // each client keeps its connection
		TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: order.Clients,
	}}
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := out.Encode(order.round(client)); err != nil {
			fail(err)
		}
	}
}

func (o clientOrder) round(client *http.Client) clientRound {
	each, failed := make([][]time.Duration, o.Clients), make([]error, o.Clients)
	var all sync.WaitGroup
	for c := range o.Clients {
		all.Go(func() {
			for q := range o.Queries {
				i := (c*o.Queries + q) % len(o.Probes)
				start := time.Now()
				person, err := identifyAt(context.Background(), client, o.Address, o.Probes[i])
				each[c] = append(each[c], time.Since(start))
				if err == nil && person != o.Persons[i] {
					err = fmt.Errorf("identify: %s, want person %s", person, o.Persons[i])
				}
				if err != nil {
					failed[c] = err
					return
				}
			}
		})
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return clientRound{Error: err.Error()}
		}
	}
	return clientRound{Times: slices.Concat(each...)}
}
