package servertest

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"sync"
	"testing"
)

// Flood holds requests open whose bodies never come, over connections of its own. When the server ends one, another
// takes its place, until the end of the test.
type Flood struct {
	ctx     context.Context
	clients []*http.Client
	all     sync.WaitGroup
	begun   sync.WaitGroup
}

// NewFlood makes a flood over so many connections, each of which has as many requests at a time as the server allows.
func (s *Server) NewFlood(t testing.TB, connections int) *Flood {
	ctx, cancel := context.WithCancel(t.Context())
	f := &Flood{ctx: ctx}
	roots := s.Client.Transport.(*http.Transport).TLSClientConfig.RootCAs
	for range connections {
		f.clients = append(f.clients, &http.Client{Transport: &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost",
				MinVersion: tls.VersionTLS12},
			HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true},
		}})
	}
	t.Cleanup(func() {
		cancel()
		f.all.Wait()
		for _, c := range f.clients {
			c.CloseIdleConnections()
		}
	})
	return f
}

// stalled is a body that never has a byte. It tells when it is asked for one, which is when its header has left.
type stalled struct {
	begun  func()
	ctx    context.Context // ends with Close
	cancel func()
}

// Read implements io.Reader.
func (b stalled) Read([]byte) (int, error) {
	b.begun()
	<-b.ctx.Done()
	return 0, io.ErrUnexpectedEOF
}

// Close implements io.Closer: the request has its answer.
func (b stalled) Close() error { b.cancel(); return nil }

// Add stalls n requests. host is their Host header; empty: that of url.
func (f *Flood) Add(n int, method, url, host string, header http.Header) {
	f.begun.Add(n)
	for i := range n {
		f.all.Go(func() {
			begun := sync.OnceFunc(f.begun.Done)
			defer begun()
			for f.ctx.Err() == nil {
				ctx, cancel := context.WithCancel(f.ctx)
				req, err := http.NewRequestWithContext(f.ctx, method, url, stalled{begun, ctx, cancel})
				if err != nil {
					panic(err) // the test's own address
				}
				req.Header, req.Host = header.Clone(), host
				if res, err := f.clients[i%len(f.clients)].Do(req); err == nil {
					_, _ = io.Copy(io.Discard, res.Body) // whatever it says
					res.Body.Close()
				}
			}
		})
	}
}

// Wait returns when every request has been begun.
func (f *Flood) Wait() { f.begun.Wait() }
