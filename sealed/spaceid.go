package sealed

import (
	"github.com/visage-face/visage/sealed/internal/format"
)

// SpaceID identifies a space for ever. All zeros and all ones identify none.
type SpaceID = format.SpaceID

// Operator is the operator's own space: what must be readable while any customer's key is gone lives here, always under
// the instance root.
var Operator = SpaceID{15: 1}
