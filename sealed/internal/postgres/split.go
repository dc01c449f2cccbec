package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// A long scan of a snapshot is split: two more connections, which see the same snapshot, each read a part of the rest
// at the same time, so that the server uses more than one processor for it. Ids are as good as random, so how many rows
// lie in a range can be told from those before. Where they are not, the parts are unequal, and nothing is wrong.
const (
	splitWays  = 2    // connections that read parts
	splitFrom  = 2048 // so many rows a scan reads by itself before it is split
	splitPages = 3    // about how many pages a part has
	splitGrows = 16   // how many times as wide, or as narrow, as the part before a part is at most
)

// split is the rest of a scan, read in parts.
type split struct {
	v      *view
	common []byte // what all keys of the rest begin with
	to     []byte
	rows   uint64 // about as many a part has
	limit  int    // of the first page of a part

	mu    sync.Mutex // guards all below
	from  []byte     // where the next part begins; nil: there is none
	width uint64     // of the next part, as the difference of the numbers of its ends

	order chan chan partPage // the parts, in the order of their keys
	quit  chan struct{}      // closed when nobody wants more
	spare chan *page         // pages whose rows are not needed any more
}

// partPage is a page of a part, or why there is none.
type partPage struct {
	*page
	err error
}

// split begins to read what follows the page that was read last in parts. first is the first key that the scan has read
// and read is how many it has read. It returns nil when what follows is short, or too many others read.
func (v *view) split(first []byte, read int, p *page) (*split, error) {
	if v.conn == nil || !v.e.exports || p.to == nil {
		return nil, nil
	}
	at := 0
	for at < min(len(p.from), len(p.to)) && p.from[at] == p.to[at] {
		at++
	}
	if !bytes.HasPrefix(first, p.from[:at]) {
		return nil, nil
	}
	begun, here, end := numberAt(first, at), numberAt(p.from, at), numberAt(p.to, at)
	if here <= begun || end <= here {
		return nil, nil
	}
	rows := uint64(splitPages * p.limit)
	width := max(1, (here-begun)/uint64(read)) // of a row
	if (end-here)/width < 2*splitWays*rows {
		return nil, nil
	}
	conns, err := v.share()
	if conns == nil {
		return nil, err
	}
	s := &split{
		v: v, common: bytes.Clone(p.from[:at]), to: p.to, rows: rows, limit: p.limit,
		from: bytes.Clone(p.from), width: width * rows, // at most end-here, see above
		order: make(chan chan partPage, splitWays), quit: make(chan struct{}), spare: make(chan *page, 4*splitWays),
	}
	var readers sync.WaitGroup
	for _, conn := range conns {
		readers.Add(1)
		v.helpers.Go(func() {
			defer readers.Done()
			defer v.givePlaces(1)
			defer finish(conn)
			s.readParts(conn)
		})
	}
	v.helpers.Go(func() {
		readers.Wait()
		close(s.order)
	})
	return s, nil
}

// share opens the connections that read parts; none where they cannot be had: a scan can do without them. The error is
// of the snapshot itself.
func (v *view) share() (conns []*pgxpool.Conn, err error) {
	if !v.takePlaces() {
		return nil, nil
	}
	var name string
	err = v.query(exportSnapshot, nil, func(found pgx.Rows) error {
		if found.Next() {
			name = string(found.RawValues()[0])
		}
		return nil
	})
	for err == nil && len(conns) < splitWays {
		conn, failed := v.e.importSnapshot(v.ctx, name)
		if failed != nil {
			for _, conn := range conns {
				finish(conn)
			}
			conns = nil
			break
		}
		conns = append(conns, conn)
	}
	if conns == nil {
		v.givePlaces(splitWays)
	}
	return conns, err
}

const (
	exportSnapshot = "SELECT pg_catalog.pg_export_snapshot()"
	splitPatience  = time.Second // in which a connection must be had
)

// importSnapshot begins a transaction that sees what the one sees which exported a snapshot.
func (e *Engine) importSnapshot(ctx context.Context, name string) (*pgxpool.Conn, error) {
	if name == "" || strings.ContainsAny(name, `'\`) {
		return nil, errors.New("PostgreSQL gives the snapshot a name that cannot be one")
	}
	bounded, stop := context.WithTimeout(ctx, splitPatience)
	defer stop()
	conn, err := e.pool.Acquire(bounded)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(bounded, beginView+"; SET TRANSACTION SNAPSHOT '"+name+"'; "+mayIdle)
	if err != nil {
		finish(conn)
		return nil, err
	}
	return conn, nil
}

// checkSnapshots finds out whether one connection can see the snapshot of another one, which not every database that
// speaks the protocol knows.
func (e *Engine) checkSnapshots(ctx context.Context) error {
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer finish(conn)
	var name string
	if _, err := conn.Exec(ctx, beginView); err != nil {
		return cause(err)
	}
	err = conn.QueryRow(ctx, exportSnapshot).Scan(&name)
	if err == nil {
		var other *pgxpool.Conn
		if other, err = e.importSnapshot(ctx, name); err == nil {
			finish(other)
		}
	}
	if e.exports = err == nil; !e.exports {
		e.logger.Info("long scans are read over one connection: the database shares no snapshots", "err", err)
	}
	return nil
}

// takePlaces takes the places of the snapshots that read parts, if at least half of all places are left for others.
func (v *view) takePlaces() bool {
	for n := range splitWays {
		free := len(v.e.views) < cap(v.e.views)/2
		if free {
			select {
			case v.e.views <- struct{}{}:
				continue
			default:
			}
		}
		v.givePlaces(n)
		return false
	}
	return true
}

func (v *view) givePlaces(n int) {
	for range n {
		<-v.e.views
	}
}

// numberAt is the eight bytes of a key from a place on, as a number.
func numberAt(key []byte, at int) uint64 {
	var b [8]byte
	copy(b[:], key[at:])
	return binary.BigEndian.Uint64(b[:])
}

// next returns the next part, which whoever calls reads; nil: there is none, or nobody wants it.
func (s *split) next() (pages chan partPage, from, to []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from == nil {
		return nil, nil, nil
	}
	from, to, s.from = s.from, s.to, nil
	here, end := numberAt(from, len(s.common)), numberAt(s.to, len(s.common))
	if s.width < end-here {
		to = binary.BigEndian.AppendUint64(bytes.Clone(s.common), here+s.width)
		s.from = to
	}
	pages = make(chan partPage, splitPages)
	select {
	case s.order <- pages:
		return pages, from, to
	case <-s.quit:
		s.from = nil
		return nil, nil, nil
	}
}

// learn takes the next parts wider or narrower after one that had so many rows.
func (s *split) learn(rows uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case rows < s.rows/2:
		s.width = max(s.width, min(s.width, ^uint64(0)/splitGrows)*min(splitGrows, s.rows/max(1, rows)))
	case rows > 2*s.rows:
		s.width = max(1, s.width/min(splitGrows, rows/s.rows))
	}
}

// readParts reads one part after the other.
func (s *split) readParts(conn *pgxpool.Conn) {
	for {
		pages, from, to := s.next()
		if pages == nil {
			return
		}
		rows, err := s.readPart(conn, pages, from, to)
		if err != nil {
			select {
			case pages <- partPage{err: err}:
			case <-s.quit:
			}
		}
		close(pages) // before anything that waits for the other one, whose parts may wait for this one
		if err != nil {
			return
		}
		s.learn(rows)
	}
}

// readPart reads the pages of a part, as far as somebody wants them, and returns how many rows they have.
func (s *split) readPart(conn *pgxpool.Conn, pages chan<- partPage, from, to []byte) (rows uint64, err error) {
	src := other{s.v, conn}
	for limit, more := s.limit, true; more; {
		p := s.blank()
		p.from, p.to, p.limit = append(p.from[:0], from...), to, limit
		if err := p.read(src); err != nil {
			return rows, err
		}
		rows += uint64(len(p.rows))
		if more = p.next(); more {
			from, limit = bytes.Clone(p.from), p.limit
		}
		select {
		case pages <- partPage{page: p}:
		case <-s.quit:
			return rows, nil
		}
	}
	return rows, nil
}

func (s *split) blank() *page {
	select {
	case p := <-s.spare:
		return p
	default:
		return &page{}
	}
}

// other is another connection of a view.
type other struct {
	v    *view
	conn *pgxpool.Conn
}

func (o other) query(sql string, args []any, collect func(pgx.Rows) error) error {
	return failed(o.v.ctx, o.v.e.run(o.v.ctx, o.conn, sql, args, collect))
}

// all yields the rows of all parts, and reports whether the scan is to go on.
func (s *split) all(yield func(engine.Row, error) bool) {
	defer close(s.quit)
	for pages := range s.order {
		for p := range pages {
			if p.err != nil {
				s.v.err = p.err
				yield(engine.Row{}, p.err)
				return
			}
			for _, row := range p.rows {
				if !yield(row, nil) {
					return
				}
			}
			select {
			case s.spare <- p.page:
			default:
			}
		}
	}
}
