package bench_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// clientVariable and peopleVariable hold an order and make the program act as clients of the data plane, or as people
// at the console, instead of a benchmark. Clients in the process of the service would share its garbage collector and
// processors with it, so they run in another process.
const (
	clientVariable = "VISAGE_BENCH_CLIENTS"
	peopleVariable = "VISAGE_BENCH_PEOPLE"
)

// clientOrder tells clients what to ask.
type clientOrder struct {
	Address, CA      string
	Key              string   // of the resource
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
	clients := startProcess(b, clientVariable, order)
	return func() []time.Duration {
		b.Helper()
		var took clientRound
		clients.begin(b)
		clients.end(b, &took)
		if took.Error != "" {
			b.Fatalf("the clients: %s", took.Error)
		}
		return took.Times
	}
}

// process is this program once more, with an order of its own. It does a round of its work for every begin.
type process struct {
	in      io.Writer
	answers *json.Decoder
}

// startProcess starts this program again with an order in a variable of its environment.
func startProcess(b *testing.B, variable string, order any) process {
	b.Helper()
	raw, err := json.Marshal(order)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), variable+"="+string(raw))
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
	return process{in, json.NewDecoder(out)}
}

// begin makes the process begin a round.
func (p process) begin(b *testing.B) {
	b.Helper()
	if _, err := fmt.Fprintln(p.in); err != nil {
		b.Fatalf("the clients: %v", err)
	}
}

// end waits for the end of a round and reads what it found.
func (p process) end(b *testing.B, found any) {
	b.Helper()
	if err := p.answers.Decode(found); err != nil {
		b.Fatalf("the clients: %v", err)
	}
}

// serveOrder is the main function of such a process: it makes the order ready, and does a round for every line of the
// input.
func serveOrder[Order, Round any](raw string, ready func(Order) (round func() Round, err error)) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var order Order
	if err := json.Unmarshal([]byte(raw), &order); err != nil {
		fail(err)
	}
	round, err := ready(order)
	if err != nil {
		fail(err)
	}
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := out.Encode(round()); err != nil {
			fail(err)
		}
	}
}

// trust returns a configuration that trusts one authority, in PEM.
func trust(ca string) (*tls.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return nil, fmt.Errorf("the order has no certificate")
	}
	return &tls.Config{RootCAs: roots}, nil
}

// ready connects the clients.
func (o clientOrder) ready() (func() clientRound, error) {
	secure, err := trust(o.CA)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{ // each client keeps its connection
		TLSClientConfig: secure, MaxIdleConnsPerHost: o.Clients,
	}}
	return func() clientRound { return o.round(client) }, nil
}

func (o clientOrder) round(client *http.Client) clientRound {
	each, failed := make([][]time.Duration, o.Clients), make([]error, o.Clients)
	var all sync.WaitGroup
	for c := range o.Clients {
		all.Go(func() {
			for q := range o.Queries {
				i := (c*o.Queries + q) % len(o.Probes)
				start := time.Now()
				person, err := identifyAt(context.Background(), client, o.Address, o.Key, o.Probes[i])
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
