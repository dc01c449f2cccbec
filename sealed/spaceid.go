package sealed

import (
	"encoding/hex"

	"github.com/visage-face/visage/sealed/internal/format"
)

// SpaceID identifies a space for ever. All zeros and all ones are nobody's.
type SpaceID [16]byte

// Operator is the operator's own space: what must be readable while any customer's key is gone lives here, always under
// the instance root.
var Operator = SpaceID{15: 1}

// String returns the id as a lower-case UUID.
func (id SpaceID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (id SpaceID) valid() bool { return id != SpaceID{} && format.ID(id) != format.MaxID }
