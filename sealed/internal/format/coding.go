package format

import (
	"github.com/fxamacker/cbor/v2"
)

// MaxRecord is the longest encoding a record may have, in bytes.
const MaxRecord = 1<<20 - 4

// Strict decodes documents and records: what we did not write is an error. Records encodes records, with times to the
// nanosecond.
var Strict, Records = coding()

func coding() (cbor.DecMode, cbor.EncMode) {
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels:   16,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxArrayElements: MaxRecord, MaxMapPairs: MaxRecord,
	}.DecMode()
	if err != nil {
		panic("format: decoding options: " + err.Error())
	}
	enc, err := cbor.EncOptions{Sort: cbor.SortBytewiseLexical, IndefLength: cbor.IndefLengthForbidden,
		Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		panic("format: encoding options: " + err.Error())
	}
	return dec, enc
}
