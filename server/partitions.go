package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/cluster/peer"
	"github.com/visage-face/visage/cluster/scatter"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/gallery/remote"
	"github.com/visage-face/visage/sealed"
)

// replicaAuthority is the sealed record of the authority by which replicas prove themselves to each other.
type replicaAuthority struct {
	Certificate []byte // DER
	Key         []byte // PKCS #8
}

var replicaAuthorities = sealed.NewTable[replicaAuthority]("server/replica-authority", 1)

// openReplicaAuthority reads the authority of the replicas from the operator's space. The first replica makes it, and
// one that starts within a year of its end gives it a new certificate.
func openReplicaAuthority(ctx context.Context, store *sealed.Store) (a *peer.Authority, err error) {
	err = store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		rec, err := replicaAuthorities.In().Get(tx, instanceID)
		switch {
		case errors.Is(err, sealed.ErrNotFound):
			a, err = peer.NewAuthority(peer.Instance(visage.NewUUID()))
		case err == nil:
			if a, err = peer.OpenAuthority(rec.Certificate, rec.Key); err == nil && !a.Aged() {
				return nil
			}
			if err == nil {
				a, err = a.Renew()
			}
		}
		if err != nil {
			return err
		}
		if rec.Certificate, rec.Key, err = a.Export(); err != nil {
			return err
		}
		return replicaAuthorities.In().Put(tx, instanceID, rec)
	})
	if err != nil {
		return nil, fmt.Errorf("open the authority of the replicas: %w", err)
	}
	return a, nil
}

// replicaNote is what a replica tells the others of itself.
type replicaNote struct {
	Peer    string `json:"peer,omitempty"`    // the address at which it answers for partitions; empty: it does not
	Budget  int64  `json:"budget,omitempty"`  // bytes that it has for galleries
	Leaving bool   `json:"leaving,omitempty"` // it is about to stop
	introduction
}

// partitions searches collections together with other replicas, at both ends. It implements face.Partitions.
type partitions struct {
	store    *sealed.Store
	log      *slog.Logger
	scatter  *scatter.Scatter
	answers  *remote.Server
	http     *http.Server
	listener net.Listener
	note     replicaNote
}

// openPartitions makes partitions whose searches work once join has been called; nil where the server has no address
// for replicas.
func (s *Server) openPartitions(l *layers) *partitions {
	if s.cfg.PeerListen == "" {
		return nil
	}
	return &partitions{store: l.store, log: s.log}
}

// peerName is the name of a replica in its certificate.
func peerName(m sealed.Member) string { return "r" + hex.EncodeToString(m.ID[:]) }

// join listens for other replicas. They do not know it before announce.
func (p *partitions) join(ctx context.Context, cfg Config, faces *face.Service, opened *closers) error {
	authority, err := openReplicaAuthority(ctx, p.store)
	if err != nil {
		return err
	}
	self, err := authority.Identity(peerName(p.store.Members()[0]), 0)
	if err != nil {
		return err
	}
	local := localParts{faces}
	p.scatter, err = scatter.New(scatter.Config{
		Self: self, Local: local, Replicas: p.replicas, PartitionBytes: cfg.PartitionBytes, Copies: cfg.PartitionCopies,
	})
	if err != nil {
		return err
	}
	opened.add("connections to replicas", func() error { p.scatter.Close(); return nil })
	p.answers, err = remote.NewServer(remote.ServerConfig{Self: self, Searcher: local, Logger: p.log})
	if err != nil {
		return err
	}
	p.http = p.answers.HTTP()
	if p.listener, err = net.Listen("tcp", cfg.PeerListen); err != nil {
		return fmt.Errorf("listen for replicas: %w", err)
	}
	opened.add("listener for replicas", func() error {
		if err := p.listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil // the HTTP server has closed it
	})
	p.note = replicaNote{Peer: cfg.PeerAddress, Budget: cfg.GalleryBytes}
	if p.note.Peer == "" {
		p.note.Peer = p.listener.Addr().String()
	}
	return nil
}

// replicas returns those that have an address.
func (p *partitions) replicas() []scatter.Replica {
	var all []scatter.Replica
	for _, m := range p.store.Members() {
		var note replicaNote
		if m.Self {
			note = p.note // also before it is announced, and when it leaves
		} else if err := json.Unmarshal(m.Note, &note); err != nil || note.Peer == "" || note.Budget < 1 {
			continue // it has told nothing yet, or is of another version
		}
		all = append(all, scatter.Replica{
			Name: peerName(m), Address: note.Peer, Budget: note.Budget, Leaving: note.Leaving,
		})
	}
	return all
}

// serve answers other replicas until stop.
func (p *partitions) serve() error {
	if err := p.http.ServeTLS(p.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve replicas: %w", err)
	}
	return nil
}

// stop answers the searches that have begun, and no others.
func (p *partitions) stop(ctx context.Context) error {
	p.answers.Drain()
	if err := p.http.Shutdown(ctx); err != nil {
		p.log.Warn("searches for replicas cut off", "err", err)
		return p.http.Close()
	}
	return nil
}

// Count implements face.Partitions.
func (p *partitions) Count(collection string, bytes int64) int {
	return p.scatter.Count(collection, bytes)
}

// retryPartition is when a search may be tried again for which a partition was missing: the replicas that have it are
// busy, load it, or have just ended.
const retryPartition = time.Second

// retryMemory is when a search may be tried again that needs the memory of more replicas: one may be starting.
const retryMemory = 5 * time.Second

// Search implements face.Partitions.
func (p *partitions) Search(ctx context.Context, q face.PartQuery) (face.PartFound, error) {
	found, err := p.scatter.Search(ctx, remote.Query{
		Partition: remote.Partition{Collection: q.Collection, Version: q.Version, Count: q.Count},
		Stamp:     remote.Stamp{Bundle: q.Bundle, Changes: q.Changes}, Query: q.Query,
	})
	_, unavailable := errors.AsType[*remote.UnavailableError](err)
	_, large := errors.AsType[*scatter.TooLargeError](err)
	switch {
	case err == nil:
		return face.PartFound{
			Changes: found.Changes, Faces: int(found.Faces), Candidates: found.Candidates,
		}, nil
	case errors.Is(err, remote.ErrBehind):
		return face.PartFound{}, fmt.Errorf("%w: %w", gallery.ErrDropped, err)
	case unavailable:
		p.log.Warn("a search in partitions had no answer", "err", err)
		refusal := visage.Refuse(visage.Unavailable, "ServiceUnavailable",
			"The collection is divided among several replicas, and no replica that holds one of its partitions "+
				"answered; they may be loading it. Try again later.")
		refusal.RetryAfter = retryPartition
		return face.PartFound{}, refusal
	case large:
		p.log.Warn("a collection exceeds the memory of the replicas", "err", err)
		refusal := visage.Refuse(visage.Unavailable, "ServiceUnavailable",
			"The collection cannot be searched at the moment: %v. Try again later; if that does not help, the "+
				"operator can raise gallery-memory or add replicas.", err)
		refusal.RetryAfter = retryMemory
		return face.PartFound{}, fmt.Errorf("%w: %w", gallery.ErrTooLarge, refusal)
	}
	return face.PartFound{}, err
}

// localParts answers for the partitions of this replica. It implements remote.Searcher.
type localParts struct{ faces *face.Service }

// Search implements remote.Searcher. What others are told names no collection.
func (p localParts) Search(ctx context.Context, q remote.Query) (remote.Found, error) {
	found, err := p.faces.SearchPart(ctx, face.PartQuery{
		Collection: q.Collection, Version: q.Version, Part: gallery.Part{Index: q.Index, Count: q.Count},
		Bundle: q.Bundle, Changes: q.Changes, Query: q.Query,
	})
	refusal, refused := errors.AsType[*visage.Refusal](err)
	switch {
	case err == nil:
		return remote.Found{
			Stamp: remote.Stamp{Bundle: q.Bundle, Changes: found.Changes}, Faces: uint64(found.Faces),
			Candidates: found.Candidates,
		}, nil
	case errors.Is(err, face.ErrBehind):
		return remote.Found{}, fmt.Errorf("%w: %w", remote.ErrBehind, err)
	case refused:
		return remote.Found{}, fmt.Errorf("%w: %s", remote.ErrNotHere, refusal.Code)
	case errors.Is(err, gallery.ErrDropped), errors.Is(err, sealed.ErrNoSpace), errors.Is(err, sealed.ErrClosed):
		return remote.Found{}, fmt.Errorf("%w: it was dropped meanwhile", remote.ErrNotHere)
	}
	return remote.Found{}, err
}

// Limits of settings.
const (
	minPartitionBytes = 1 << 10
	maxCopies         = 16
)

// checkPartitions checks the settings of searches with other replicas.
func (c *Config) checkPartitions(bad func(setting, format string, args ...any)) {
	if c.PartitionBytes < minPartitionBytes || c.PartitionBytes > c.GalleryBytes {
		bad("partition-memory", "must be at least %s, and at most gallery-memory, which is %s; got %s",
			sizeText(minPartitionBytes), sizeText(c.GalleryBytes), sizeText(c.PartitionBytes))
	}
	if c.PartitionCopies < 1 || c.PartitionCopies > maxCopies {
		bad("partition-copies", "must be between 1 and %d; got %d", maxCopies, c.PartitionCopies)
	}
	if c.PeerListen == "" {
		if c.PeerAddress != "" {
			bad("peer-address", "peer-address and peer-listen go together: set both, or neither")
		}
		return
	}
	if !c.Shared {
		bad("peer-listen", "is for replicas that share a store: set shared as well, or leave it out")
	}
	host, _, err := net.SplitHostPort(c.PeerListen)
	if err != nil {
		bad("peer-listen", "must be host:port, such as 10.0.0.5:8444; got %q", c.PeerListen)
		return
	}
	ip := net.ParseIP(host)
	if c.PeerAddress == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
		bad("peer-address", "must be set to the host:port at which other replicas reach this one, because peer-listen "+
			"%q names all addresses of the machine", c.PeerListen)
	}
	if c.PeerAddress == "" {
		return
	}
	if host, port, err := net.SplitHostPort(c.PeerAddress); err != nil || host == "" || port == "" || port == "0" {
		bad("peer-address", "must be host:port, such as replica-1.internal:8444; got %q", c.PeerAddress)
	}
}
