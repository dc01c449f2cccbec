package place

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/format"
)

// mark is what a place says of itself. It is plain text, so that operators can read it: somebody who can write to the
// place can destroy keys whatever a mark says, so nothing is gained by authenticating it.
type mark struct {
	Place id     `json:"place"`           // random, for ever
	Count uint64 `json:"count"`           // of beats; it grows
	Beat  id     `json:"beat"`            // random, of the newest beat
	State string `json:"state,omitempty"` // empty: in use
	Other id     `json:"other,omitzero"`  // the place that keys come from, or have gone to
}

// The states of a place that is not in use.
const (
	arriving = "arriving" // keys are being moved here
	left     = "left"     // they were moved elsewhere
)

// id is a format.ID in hexadecimal.
type id format.ID

// MarshalText implements encoding.TextMarshaler.
func (i id) MarshalText() ([]byte, error) { return []byte(format.ID(i).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *id) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err == nil && len(raw) != len(i) {
		err = errors.New("an id has 32 hexadecimal digits")
	}
	if err == nil {
		*i = id(raw)
	}
	return err
}

func (m mark) bytes() []byte {
	raw, err := json.Marshal(m)
	if err != nil {
		panic("place: a mark that has no text: " + err.Error())
	}
	return raw
}

func parse(raw []byte) (m mark, err error) {
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("the mark of the place is not readable: %w", err)
	}
	return m, nil
}
