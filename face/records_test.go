package face_test

import (
	"encoding/hex"
	"regexp"
	"slices"
	"testing"

	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/gallery"
)

// The record of a face, as docs/formats/faces.md describes it.
const (
	faceHeader = "000102030405060708090a0b0c0d0e0f" + // id
		"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" + // person
		"0807060504030201" // sequence number 0x0102030405060708
	faceVector = faceHeader + "ab5f" + "8180" + "0100" // 24491, -32639, 1
)

func TestFaceRecordVector(t *testing.T) {
	var id, person [16]byte
	for i := range id {
		id[i], person[i] = byte(i), 0xf0+byte(i)
	}
	code := gallery.Code{0xab, 0x5f, 0x81, 0x80, 1, 0}
	got := must[[]byte](t)(face.EncodeFace(id, person, 0x0102030405060708, code))
	if hex.EncodeToString(got) != faceVector {
		t.Errorf("got %x, want %s", got, faceVector)
	}
	id2, person2, sequence, code2, err := face.DecodeFace(got)
	if err != nil || id2 != id || person2 != person || sequence != 0x0102030405060708 || !slices.Equal(code, code2) {
		t.Errorf("read back: %x %x %x %v, %v", id2, person2, sequence, code2, err)
	}
}

// The record of a face in encoding 1.
const earlierFaceVector = faceHeader + "0000003f" + "0000003f" + "000000bf" + "0000003f" // 0.5, 0.5, -0.5, 0.5

func TestEarlierFaceRecordVector(t *testing.T) {
	got, err := face.EarlierFace(must[[]byte](t)(hex.DecodeString(earlierFaceVector)))
	if want := faceHeader + "8180" + "7f7f" + "8180" + "8180"; err != nil || hex.EncodeToString(got) != want {
		t.Errorf("got %x, %v; want %s", got, err, want)
	}
	for name, template := range map[string]string{
		"no template": "", "half a number": "0000803f0000", "zero": "00000000", "not a number": "0000803f0000c07f",
		"infinite": "0000807f", "not of unit length": "0000003f", "denormal": "01000000",
	} {
		if got, err := face.EarlierFace(must[[]byte](t)(hex.DecodeString(faceHeader + template))); err == nil {
			t.Errorf("%s: became %x", name, got)
		}
	}
	if got, err := face.EarlierFace(make([]byte, 39)); err == nil {
		t.Errorf("a record that is too short became %x", got)
	}
}

func TestBrokenFaceRecordsAreRefused(t *testing.T) {
	whole := must[[]byte](t)(hex.DecodeString(faceVector))
	for _, n := range []int{0, 1, 39, 40, 41, 45} {
		if _, _, _, _, err := face.DecodeFace(whole[:n]); err == nil {
			t.Errorf("a record of %d bytes was read", n)
		}
	}
	for name, code := range map[string]string{"zero": "00000000", "out of range": "807f0000",
		"out of range below": "00008080"} {
		if _, _, _, _, err := face.DecodeFace(must[[]byte](t)(hex.DecodeString(faceHeader + code))); err == nil {
			t.Errorf("a record with a code that is %s was read", name)
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
		id, person, sequence, code, err := face.DecodeFace(b)
		if err != nil {
			return
		}
		again, err := face.EncodeFace(id, person, sequence, code)
		if err != nil || !slices.Equal(again, b) {
			t.Errorf("%x is read and written as %x, %v", b, again, err)
		}
	})
}

func FuzzID(f *testing.F) {
	for _, s := range []string{unknownID, "", "00000000-0000-4000-8000-00000000000G",
		"00000000-0000-4000-8000-00000000000A",
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
