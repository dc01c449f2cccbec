package stream_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed/internal/stream"
)

var key = bytes.Repeat([]byte{7}, 32)

func written(t testing.TB, frames ...stream.Frame) []byte {
	t.Helper()
	var out bytes.Buffer
	head := stream.Header{Content: stream.Data, Instance: "abc", Taken: time.Unix(1, 0).UTC()}
	total, err := stream.Write(t.Context(), &out, key, head, func(add func(stream.Frame) error) error {
		for _, f := range frames {
			if err := add(f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || total != (stream.Total{Rows: int64(len(frames)), Bytes: int64(out.Len())}) {
		t.Fatalf("wrote %+v in %d bytes, %v", total, out.Len(), err)
	}
	return out.Bytes()
}

// read reads a stream to its end.
func read(ctx context.Context, b []byte, key []byte) (frames []stream.Frame, err error) {
	r, err := stream.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	err = r.Each(ctx, 2, func(*stream.Segment) error { return nil }, func(g *stream.Segment) error {
		for f := range g.All() {
			frames = append(frames, stream.Frame{Kind: f.Kind, Key: bytes.Clone(f.Key), Value: bytes.Clone(f.Value)})
		}
		return nil
	})
	if err != nil {
		return frames, err
	}
	return frames, r.Check(key)
}

// firstForm writes frames as streams were written before they had segments.
func firstForm(t testing.TB, frames ...stream.Frame) []byte {
	t.Helper()
	head, err := json.Marshal(stream.Header{Content: stream.Data, Instance: "abc", Taken: time.Unix(1, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	b := append(binary.BigEndian.AppendUint32([]byte("VISAGE BACKUP 1\n"), uint32(len(head))), head...)
	for _, f := range frames {
		b = stream.AppendFrame(b, f)
	}
	b = binary.BigEndian.AppendUint64(append(b, 0), uint64(len(frames)))
	sum, code := sha256.Sum256(b), hmac.New(sha256.New, key)
	code.Write(sum[:])
	return code.Sum(b)
}

var forms = map[string]func(testing.TB, ...stream.Frame) []byte{"first": firstForm, "today's": written}

// many is frames of several segments.
func many(n int) (frames []stream.Frame) {
	source := rand.NewChaCha8([32]byte{1})
	random := rand.New(source)
	for i := range n {
		value := make([]byte, 1+random.IntN(2000))
		source.Read(value)
		frames = append(
			frames, stream.Frame{Kind: stream.Row, Key: binary.BigEndian.AppendUint64([]byte("key"), uint64(i)),
				Value: value},
		)
	}
	return frames
}

func same(a, b stream.Frame) bool {
	return a.Kind == b.Kind && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

func TestRoundTrip(t *testing.T) {
	few := []stream.Frame{
		{Kind: stream.Row, Key: []byte("a"), Value: nil},
		{Kind: stream.EpochKey, Key: []byte("b"), Value: bytes.Repeat([]byte{1}, 300)},
		{Kind: stream.Row, Key: bytes.Repeat([]byte{2}, 256), Value: bytes.Repeat([]byte{3}, 1<<20)},
		{Kind: stream.Row, Key: bytes.Repeat([]byte{3}, 256), Value: bytes.Repeat([]byte{3}, 2<<20)},
	}
	for form, write := range forms {
		for name, want := range map[string][]stream.Frame{"none": nil, "few": few, "many": many(15_000)} {
			t.Run(form+"/"+name, func(t *testing.T) {
				b := write(t, want...)
				got, err := read(t.Context(), b, key)
				if err != nil || len(got) != len(want) {
					t.Fatalf("%d frames, %v", len(got), err)
				}
				for i := range want {
					if !same(got[i], want[i]) {
						t.Fatalf("frame %d differs", i)
					}
				}
				if _, err := read(t.Context(), b, bytes.Repeat([]byte{8}, 32)); !errors.Is(err,
					stream.ErrNotAuthentic) {
					t.Errorf("another key: %v", err)
				}
			})
		}
	}
}

// TestSegmentsEndWhereKeysSay: segments have the sizes that they are to have, and one frame more or less changes those
// around it alone.
func TestSegmentsEndWhereKeysSay(t *testing.T) {
	frames := many(30_000)
	sums := func(frames []stream.Frame) (sums [][32]byte, sizes []int) {
		r, err := stream.NewReader(bytes.NewReader(written(t, frames...)))
		if err != nil {
			t.Fatal(err)
		}
		err = r.Each(t.Context(), 2, func(*stream.Segment) error { return nil }, func(g *stream.Segment) error {
			sums, sizes = append(sums, g.Sum), append(sizes, len(g.Frames))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return sums, sizes
	}
	before, sizes := sums(frames)
	if len(sizes) < 6 {
		t.Fatalf("%d segments", len(sizes))
	}
	for i, size := range sizes {
		if size > 8<<20+4<<10 || size < 1<<20 && i < len(sizes)-1 {
			t.Errorf("segment %d has %d bytes", i, size)
		}
	}
	after, _ := sums(slices.Delete(slices.Clone(frames), 15_000, 15_001))
	other := 0
	for _, sum := range after {
		if !slices.Contains(before, sum) {
			other++
		}
	}
	if other == 0 || other > 3 {
		t.Errorf("%d of %d segments are others, with one frame less", other, len(after))
	}
}

func TestEveryChangedByteShows(t *testing.T) {
	for form, write := range forms {
		b := write(t, stream.Frame{Kind: stream.Row, Key: []byte("key"), Value: []byte("value")},
			stream.Frame{Kind: stream.Row, Key: []byte("l"), Value: []byte("w")})
		for i := range b {
			c := bytes.Clone(b)
			c[i] ^= 0x10
			if _, err := read(t.Context(), c, key); !errors.Is(err, stream.ErrMalformed) &&
				!errors.Is(err, stream.ErrNotAuthentic) {
				t.Errorf("%s: byte %d changed: %v", form, i, err)
			}
			if _, err := read(t.Context(), b[:i], key); !errors.Is(err, stream.ErrMalformed) {
				t.Errorf("%s: cut at %d: %v", form, i, err)
			}
		}
	}
}

// TestSegmentsCannotBeExchanged: every segment is what its sum says, and yet it is not what the instance wrote.
func TestSegmentsCannotBeExchanged(t *testing.T) {
	b := written(t, many(15_000)...)
	begin := len("VISAGE BACKUP 2\n") + 4 + int(binary.BigEndian.Uint32(b[16:]))
	var parts [][]byte
	for rest := b[begin:]; rest[0] == 1; {
		n := 5 + int(binary.BigEndian.Uint32(rest[1:])) + 32
		parts, rest = append(parts, rest[:n]), rest[n:]
	}
	end := b[len(b)-41:]
	if len(parts) < 2 {
		t.Fatalf("%d segments", len(parts))
	}
	try := func(what string, want error, parts ...[]byte) {
		t.Helper()
		if _, err := read(t.Context(), slices.Concat(b[:begin], slices.Concat(parts...), end), key); !errors.Is(err,
			want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	try("as it was", nil, parts...)
	swapped := slices.Clone(parts)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	try("exchanged", stream.ErrNotAuthentic, swapped...)
	try("one left out", stream.ErrMalformed, parts[1:]...)
	try("one twice", stream.ErrMalformed, append(slices.Clone(parts), parts[0])...)
}

// TestWriterEnds: it ends with the first error there is, wherever that is.
func TestWriterEnds(t *testing.T) {
	frames := many(10_000)
	broken := errors.New("broken")
	write := func(ctx context.Context, w io.Writer, at int, then func() error) error {
		_, err := stream.Write(ctx, w, key, stream.Header{Content: stream.Data},
			func(add func(stream.Frame) error) error {
				for i, f := range frames {
					if i == at {
						if err := then(); err != nil {
							return err
						}
					}
					if err := add(f); err != nil {
						return err
					}
				}
				return nil
			})
		return err
	}
	nothing := func() error { return nil }
	for limit := 0; ; limit += 3 << 20 {
		w := &limited{left: limit, err: broken}
		err := write(t.Context(), w, -1, nothing)
		if err == nil && w.left >= 0 {
			break
		}
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", limit, err)
		}
	}
	if err := write(t.Context(), io.Discard, 9_000, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("what fills it fails: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := write(ctx, io.Discard, 5_000, func() error { cancel(broken); return nil }); !errors.Is(err, broken) {
		t.Errorf("it is cancelled: %v", err)
	}
	if err := write(t.Context(), io.Discard, 0, func() error {
		_, err := stream.Write(t.Context(), io.Discard, key, stream.Header{}, func(add func(stream.Frame) error) error {
			return add(stream.Frame{Kind: stream.Row, Value: make([]byte, 2<<20+1)})
		})
		return err
	}); err == nil {
		t.Error("a row that is too large was written")
	}
}

// limited takes so many bytes.
type limited struct {
	left int
	err  error
}

func (l *limited) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		return 0, l.err
	}
	return len(b), nil
}

// FuzzRead: no input makes the reader fail otherwise than with a word for it, only what was written is authentic, and
// what can be read is written again as it was.
func FuzzRead(f *testing.F) {
	for _, write := range forms {
		good := write(f, stream.Frame{Kind: stream.Row, Key: []byte("key"), Value: []byte("value")})
		f.Add(good)
		f.Add(good[:len(good)/2])
		f.Add(write(f))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := read(t.Context(), b, key)
		switch {
		case err == nil:
			if !bytes.HasPrefix(b, written(t, frames...)) && !bytes.HasPrefix(b, firstForm(t, frames...)) {
				t.Error("a stream that nobody wrote is authentic")
			}
		case !errors.Is(err, stream.ErrMalformed) && !errors.Is(err, stream.ErrNotAuthentic):
			t.Errorf("got %v", err)
		}
	})
}

// FuzzFrames: frames have one form.
func FuzzFrames(f *testing.F) {
	f.Add(
		stream.AppendFrame(
			nil, stream.Frame{Kind: stream.Row, Key: []byte("key"), Value: bytes.Repeat([]byte("value"), 100)},
		),
	)
	f.Add([]byte{1, 0x80, 0, 0})
	f.Add([]byte{2, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := stream.CheckFrames(b)
		if err != nil {
			if !errors.Is(err, stream.ErrMalformed) {
				t.Errorf("got %v", err)
			}
			return
		}
		var again []byte
		for f := range (&stream.Segment{Frames: b}).All() {
			again, rows = stream.AppendFrame(again, f), rows-1
		}
		if rows != 0 || !bytes.Equal(again, b) {
			t.Errorf("%d rows too many; written again, it is %x", rows, again)
		}
	})
}
