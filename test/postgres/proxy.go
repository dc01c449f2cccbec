package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// Proxy stands between clients and a server, and ends connections at the moment of a commit.
type Proxy struct {
	dir  string
	port int

	mu     sync.Mutex
	target string // the socket of the server that new connections lead to
	before int    // so many commits do not reach the server
	after  int    // so many commits are made, and not answered
	last   bool   // the next commit that is lost is the last thing that gets through
	other  []byte // what ends the answer that is lost, instead of that of a commit
	barred bool   // nobody gets through
	open   map[net.Conn]bool
}

// Proxy starts a proxy before the server for the time of a test.
func (s *Server) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	dir, err := os.MkdirTemp("", "visage-proxy-") // short: the path of a socket has 107 bytes at most
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{dir: dir, port: s.Port, target: s.socket(), open: map[net.Conn]bool{}}
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(s.Port)))
	if err != nil {
		tb.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			all.Go(func() { p.serve(client) })
		}
	})
	tb.Cleanup(func() {
		p.Bar()
		err := errors.Join(l.Close(), os.RemoveAll(dir))
		all.Wait()
		if err != nil {
			tb.Errorf("end the proxy: %v", err)
		}
	})
	return p
}

// URL returns the URL of a database through the proxy.
func (p *Proxy) URL(role, database string) string { return socketURL(p.dir, p.port, role, database) }

// LoseCommits ends the connections of the next n commits before they reach the server.
func (p *Proxy) LoseCommits(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = n
}

// LoseAnswers ends the connections of the next n commits when the server has made them, without its answer.
func (p *Proxy) LoseAnswers(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = n
}

// LoseAnswersTo is LoseAnswers of statements with a tag, such as "INSERT 0 1", that are transactions of their own.
func (p *Proxy) LoseAnswersTo(tag string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after, p.other = n, answer(tag)
}

// LoseAnswerForLong is LoseAnswers of one commit, and Bar as soon as that is lost.
func (p *Proxy) LoseAnswerForLong() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after, p.last = 1, true
}

// Bar ends all connections, and each new one.
func (p *Proxy) Bar() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.barLocked()
}

func (p *Proxy) barLocked() {
	p.barred = true
	for c := range p.open {
		c.Close() // what it was about is over
	}
}

// Unbar lets connections through again.
func (p *Proxy) Unbar() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.barred = false
}

// note keeps a connection, or reports that it is not let through.
func (p *Proxy) note(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.barred {
		return false
	}
	p.open[c] = true
	return true
}

func (p *Proxy) end(c net.Conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	c.Close() // the other side may have done so
}

// LeadTo ends all connections, and has new ones lead to another server, as an address does that moves.
func (p *Proxy) LeadTo(s *Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = s.socket()
	for c := range p.open {
		c.Close() // what it was about is over
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.end(client)
	if !p.note(client) {
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("unix", target)
	if err != nil {
		return // as when nobody listens
	}
	defer p.end(server)
	if !p.note(server) {
		return
	}
	var both sync.WaitGroup
	pass := func(to, from net.Conn, mark []byte, left *int) {
		defer both.Done()
		p.copy(to, from, mark, left)
		client.Close() // either end is that of both
		server.Close()
	}
	both.Add(2)
	go pass(server, client, commitStatement, &p.before)
	go pass(client, server, commitAnswer, &p.after)
	both.Wait()
}

var (
	commitAnswer = answer("COMMIT")
	// the name that pgx gives the prepared statement COMMIT
	commitStatement = func() []byte {
		digest := sha256.Sum256([]byte("COMMIT"))
		return []byte("stmtcache_" + hex.EncodeToString(digest[:24]))
	}()
)

// answer is CommandComplete in the protocol of PostgreSQL, with its length and tag.
func answer(tag string) []byte {
	return append([]byte{'C', 0, 0, 0, byte(len(tag) + 5)}, tag+"\x00"...)
}

// copy passes bytes on, until they have a mark and so many are to be lost.
func (p *Proxy) copy(to io.Writer, from io.Reader, mark []byte, left *int) {
	buffer := make([]byte, 64<<10)
	var tail []byte // a mark may come in two parts
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		if left == &p.after && p.other != nil {
			mark = p.other
		}
		p.mu.Unlock()
		seen := append(tail, buffer[:n]...)
		if n > 0 && bytes.Contains(seen, mark) {
			p.mu.Lock()
			lose := *left > 0
			if lose {
				*left--
				if p.last {
					p.last = false
					p.barLocked()
				}
			}
			p.mu.Unlock()
			if lose {
				return
			}
			seen = nil
		}
		tail = bytes.Clone(seen[max(0, len(seen)-len(mark)+1):])
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}
