package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// open begins to read a stream. It refuses one of other content, and one of a store of a later format than is known.
func open(r io.Reader, content stream.Content, known uint32) (*stream.Reader, error) {
	in, err := stream.NewReader(r)
	if err != nil {
		return nil, err
	}
	if c := in.Header().Content; c != content {
		return nil, fmt.Errorf("%w: it is a backup of %s", ErrMalformed, c)
	}
	if h := in.Header(); h.Format > known {
		what := "backup"
		if content == stream.Keyring {
			what = "keyring"
		}
		return nil, &format.NewerError{What: what, Format: h.Format, Known: known, Since: h.Since}
	}
	return in, nil
}

// checkStream makes sure that this instance wrote what was read to its end.
func checkStream(root *keys.Root, in *stream.Reader) error {
	if in.Header().Instance != format.SpaceID(root.Instance).String() {
		return ErrForeign
	}
	version := in.Header().Root + 1
	under, err := root.Of(version)
	if err != nil {
		return err
	}
	if under == nil {
		return fmt.Errorf("%w: it was written under version %d of the root key, and the keyring knows %d versions: "+
			"use a keyring that is as new as the backup", ErrNotAuthentic, version, root.Current().Version)
	}
	var key []byte
	arena.Do(func() { key = format.BackupKey(under, root.Instance, string(in.Header().Content)) })
	defer clear(key)
	return in.Check(key)
}

// readers is how many segments of a stream are looked at at once, while others are written.
func readers() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// eachFrame reads a stream to its end and visits its frames in order. A frame is valid during the visit.
func eachFrame(ctx context.Context, in *stream.Reader, visit func(stream.Frame) error) error {
	return in.Each(ctx, readers(), func(*stream.Segment) error { return nil }, func(g *stream.Segment) error {
		for f := range g.All() {
			if err := visit(f); err != nil {
				return err
			}
		}
		return nil
	})
}

// Copy is what a keyring or backup in a file says of itself.
type Copy struct {
	Keyring  bool   // else it is a backup of the data
	Instance string // the UUID of the instance, see sealed.Store.Instance
	Taken    time.Time
}

// CheckWhole reads the copy of a keyring or backup in a file, and says whether all of it is there and as it was
// written. It needs no key, so it cannot say who wrote it. With an error, the Copy is what could be read of it. Error:
// ErrMalformed.
func CheckWhole(ctx context.Context, r io.Reader) (Copy, error) {
	in, err := stream.NewReader(r)
	if err != nil {
		return Copy{}, err
	}
	h := in.Header()
	return Copy{h.Content == stream.Keyring, h.Instance, h.Taken},
		eachFrame(ctx, in, func(stream.Frame) error { return nil })
}

// Why a restore is refused. Nothing that was restored before the refusal opens as a store.
var (
	ErrNotEmpty     = errors.New("there is data already: restore into an empty directory")
	ErrForeign      = errors.New("the two are of different instances")
	ErrNotAuthentic = stream.ErrNotAuthentic // changed, or made by another instance
	ErrMalformed    = stream.ErrMalformed    // no backup, or not all of one
)
