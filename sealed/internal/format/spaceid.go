package format

import (
	"encoding/hex"
)

// SpaceID identifies a space for ever. All zeros and all ones identify none.
type SpaceID [16]byte

// String returns the id as a lower-case UUID.
func (id SpaceID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Valid reports whether a space can have the id.
func (id SpaceID) Valid() bool { return id != SpaceID{} && ID(id) != MaxID }
