package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage/cluster/peer"
)

// Searcher searches the partitions that this process has in memory, or can load. It is called by many at once.
//
// The answer is for the query's bundle, and for its counter of changes or a later one. Errors: one that wraps
// ErrNotHere when another replica might answer; one that wraps ErrBehind when the query's bundle is not the newest.
// Everything else is logged, and another replica is asked. The probes must not be used after it has returned.
type Searcher interface {
	Search(ctx context.Context, q Query) (Found, error)
}

var (
	// ErrNotHere says that a replica cannot answer for a partition now: it lacks memory, has not seen the changes yet,
	// or does not serve it any more.
	ErrNotHere = errors.New("the partition is not served here now")
	// ErrBehind says that the caller has an old key bundle. It reads the bundle again, and searches again if that
	// allows it.
	ErrBehind = errors.New("the key bundle of the search has been replaced")
)

// path is where requests go, with the POST method.
const path = "/partition"

// retryAfter is what a replica that is busy or drains suggests, in seconds.
const retryAfter = 1

// ServerConfig is what a Server needs.
type ServerConfig struct {
	Self     *peer.Identity // required
	Searcher Searcher       // required
	// Concurrent is how many searches run or wait at the same time; more are refused, so that callers ask another
	// replica rather than wait here. Default 256.
	Concurrent int
	// Logger gets what callers are not told. Default: discard.
	Logger *slog.Logger
}

// Server answers searches of partitions: a handler for a listener with Self's ServerTLS. It is safe for concurrent use.
type Server struct {
	cfg      ServerConfig
	running  atomic.Int64
	draining atomic.Bool
}

// NewServer checks cfg and makes a Server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Self == nil || cfg.Searcher == nil {
		return nil, errors.New("a server of partitions needs an identity and a searcher")
	}
	if cfg.Concurrent == 0 {
		cfg.Concurrent = 256
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg}, nil
}

// Drain makes the server refuse new searches, so that callers ask other replicas. Those under way are answered.
func (s *Server) Drain() { s.draining.Store(true) }

// ServeHTTP answers one search.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := s.cfg.Self.Peer(r.TLS); err != nil {
		// The certificate of an open connection has expired, or there is none: the other side must connect anew.
		w.Header().Set("Connection", "close")
		s.refuse(w, http.StatusForbidden, err)
		return
	}
	if r.URL.Path != path || r.Method != http.MethodPost {
		s.refuse(w, http.StatusNotFound, fmt.Errorf("%s %s is not served here", r.Method, r.URL.Path))
		return
	}
	defer s.running.Add(-1)
	if s.running.Add(1) > int64(s.cfg.Concurrent) || s.draining.Load() {
		s.refuse(w, http.StatusServiceUnavailable, ErrNotHere)
		return
	}
	if r.ContentLength < askFixed || r.ContentLength > mostAskBytes {
		s.refuse(w, http.StatusBadRequest, errFormat)
		return
	}
	body := make([]byte, r.ContentLength)
	defer clear(body)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		s.refuse(w, http.StatusBadRequest, fmt.Errorf("read a request: %w", err))
		return
	}
	a, err := decodeAsk(body)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, err)
		return
	}
	if a.instance != s.cfg.Self.Instance() {
		s.refuse(w, http.StatusForbidden, peer.ErrPeer)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.patience)
	defer cancel()
	found, err := s.cfg.Searcher.Search(ctx, a.query)
	switch {
	case err == nil:
	case errors.Is(err, ErrBehind):
		s.refuse(w, http.StatusConflict, err)
		return
	case errors.Is(err, ErrNotHere), ctx.Err() != nil:
		s.refuse(w, http.StatusServiceUnavailable, err)
		return
	default:
		s.cfg.Logger.Error("search of a partition failed", "err", err)
		s.refuse(w, http.StatusInternalServerError, errors.New("the search failed"))
		return
	}
	out := answer{
		instance: a.instance, id: a.id, version: a.query.Version, index: a.query.Index, count: a.query.Count,
		found: found,
	}
	encoded := out.encode()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(encoded)))
	_, _ = w.Write(encoded) // a caller that has gone does not need it
}

// refuse answers without a result. The text is for a person who debugs; callers go by the status alone.
func (s *Server) refuse(w http.ResponseWriter, status int, err error) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	http.Error(w, err.Error(), status)
}

// HTTP returns the server of a listener for the handler, whose certificates and limits it sets. The listener is a plain
// one: call ServeTLS with no files.
func (s *Server) HTTP() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler: s, TLSConfig: s.cfg.Self.ServerTLS(), Protocols: &protocols,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
	}
}
