package stream_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed/internal/stream"
)

var key = bytes.Repeat([]byte{7}, 32)

func written(t testing.TB, frames ...stream.Frame) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := stream.NewWriter(&out, key, stream.Header{Content: stream.Data, Instance: "abc", Taken: time.Unix(1, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if err := w.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	total, err := w.Close()
	if err != nil || total.Rows != int64(len(frames)) {
		t.Fatalf("closed with %+v, %v", total, err)
	}
	return out.Bytes()
}

// read reads a stream to its end.
func read(b []byte, key []byte) (frames []stream.Frame, err error) {
	r, err := stream.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	for {
		f, err := r.Next()
		if err != nil {
			return frames, err
		}
		if f.Kind == stream.End {
			return frames, r.Check(key)
		}
		frames = append(frames, stream.Frame{Kind: f.Kind, Key: bytes.Clone(f.Key), Value: bytes.Clone(f.Value)})
	}
}

func TestRoundTrip(t *testing.T) {
	want := []stream.Frame{
		{Kind: stream.Row, Key: []byte("a"), Value: nil},
		{Kind: stream.EpochKey, Key: []byte("b"), Value: bytes.Repeat([]byte{1}, 300)},
		{Kind: stream.Row, Key: bytes.Repeat([]byte{2}, 256), Value: bytes.Repeat([]byte{3}, 1<<20)},
	}
	b := written(t, want...)
	got, err := read(b, key)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d frames, %v", len(got), err)
	}
	for i := range want {
		if got[i].Kind != want[i].Kind || !bytes.Equal(got[i].Key, want[i].Key) || !bytes.Equal(got[i].Value, want[i].Value) {
			t.Errorf("frame %d differs", i)
		}
	}
	if _, err := read(b, bytes.Repeat([]byte{8}, 32)); !errors.Is(err, stream.ErrNotAuthentic) {
		t.Errorf("another key: %v", err)
	}
}

func TestEveryChangedByteShows(t *testing.T) {
	b := written(t, stream.Frame{Kind: stream.Row, Key: []byte("key"), Value: []byte("value")}, stream.Frame{Kind: stream.Row, Key: []byte("l"), Value: []byte("w")})
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 0x10
		if _, err := read(c, key); !errors.Is(err, stream.ErrMalformed) && !errors.Is(err, stream.ErrNotAuthentic) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := read(b[:i], key); !errors.Is(err, stream.ErrMalformed) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}

// FuzzRead: no input makes the reader fail otherwise than with a word for it, and only what was written is authentic.
func FuzzRead(f *testing.F) {
	good := written(f, stream.Frame{Kind: stream.Row, Key: []byte("key"), Value: []byte("value")})
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := read(b, key)
		switch {
		case err == nil:
			if !bytes.HasPrefix(b, good) {
				t.Error("a stream that nobody wrote is authentic")
			}
		case !errors.Is(err, stream.ErrMalformed) && !errors.Is(err, stream.ErrNotAuthentic):
			t.Errorf("got %v", err)
		}
	})
}
