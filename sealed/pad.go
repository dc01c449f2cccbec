package sealed

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/format"
)

// sizeClasses are the lengths that padded records come in, so that the length of a name or of userData does not show on
// disk.
var sizeClasses = [...]int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20}

// MaxRecord is the longest encoding a record may have, in bytes.
const MaxRecord = format.MaxRecord

// pad prefixes data with its length and fills up to the next size class.
func pad(data []byte) ([]byte, error) {
	for _, size := range sizeClasses {
		if 4+len(data) <= size {
			b := make([]byte, size)
			binary.BigEndian.PutUint32(b, uint32(len(data)))
			copy(b[4:], data)
			return b, nil
		}
	}
	return nil, fmt.Errorf("a record of %d bytes is over the limit of %d", len(data), MaxRecord)
}

// unpad returns the data inside what pad made.
func unpad(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, errors.New("padded record is too short")
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, errors.New("padded record is shorter than it says")
	}
	return b[4 : 4+n], nil
}
