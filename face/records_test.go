package face_test

import (
	"encoding/hex"
	"regexp"
	"slices"
	"testing"

	"github.com/visage-face/visage/face"
)

// The record of a face as docs/formats/faces.md has it.
const faceVector = "000102030405060708090a0b0c0d0e0f" + // id
	"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" + // person
	"0807060504030201" + // sequence number 0x0102030405060708
	"0000003f" + "000080be" + "0000803f" // 0.5, -0.25, 1

func TestFaceRecordVector(t *testing.T) {
	var id, person [16]byte
	for i := range id {
		id[i], person[i] = byte(i), 0xf0+byte(i)
	}
	template := []float32{0.5, -0.25, 1}
	got := must[[]byte](t)(face.EncodeFace(id, person, 0x0102030405060708, template))
	if hex.EncodeToString(got) != faceVector {
		t.Errorf("got %x, want %s", got, faceVector)
	}
	id2, person2, sequence, template2, err := face.DecodeFace(got)
	if err != nil || id2 != id || person2 != person || sequence != 0x0102030405060708 || !slices.Equal(template, template2) {
		t.Errorf("read back: %x %x %x %v, %v", id2, person2, sequence, template2, err)
	}
}

func TestBrokenFaceRecordsAreRefused(t *testing.T) {
	whole := must[[]byte](t)(hex.DecodeString(faceVector))
	for _, n := range []int{0, 1, 39, 41, 51} {
		if _, _, _, _, err := face.DecodeFace(whole[:n]); err == nil {
			t.Errorf("a record of %d bytes was read", n)
		}
	}
}

func FuzzFaceRecord(f *testing.F) {
	whole, err := hex.DecodeString(faceVector)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:40])
	f.Add(whole[:39])
	f.Fuzz(func(t *testing.T, b []byte) {
		id, person, sequence, template, err := face.DecodeFace(b)
		if err != nil {
			return
		}
		again, err := face.EncodeFace(id, person, sequence, template)
		if err != nil || !slices.Equal(again, b) {
			t.Errorf("%x is read and written as %x, %v", b, again, err)
		}
	})
}

func FuzzID(f *testing.F) {
	for _, s := range []string{unknownID, "", "00000000-0000-4000-8000-00000000000G", "00000000-0000-4000-8000-00000000000A",
		"000000000000-4000-8000-0000-00000000", "{0000000-0000-4000-8000-000000000000}"} {
		f.Add(s)
	}
	shape := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	f.Fuzz(func(t *testing.T, s string) {
		again, err := face.ParseID(s)
		if (err == nil) != shape.MatchString(s) || err == nil && again != s {
			t.Errorf("%q: read as %q, %v", s, again, err)
		}
	})
}
