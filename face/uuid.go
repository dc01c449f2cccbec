package face

import "github.com/visage-face/visage"

// uuid is the id of a face, a person, or an incarnation of a collection.
type uuid = visage.UUID

// The id of a detected face tells in five of its 122 random bits the hour in which the face expires, modulo 32. At most
// 25 such hours are alive at any moment, so these bits say which container the face is in, without a pointer beside it
// that would have to be swept too. They tell nobody anything: whoever has the id asked for the time to live.
const hourBits = 0x1f

// newFaceID makes the id of a face that expires in that hour (counted from 1970).
func newFaceID(hour int64) uuid {
	u := visage.NewUUID()
	u[15] = u[15]&^hourBits | byte(hour)&hourBits
	return u
}

// hourOf returns the hour in which a face of that id expires, if it is alive in the hour now.
func hourOf(u uuid, now int64) int64 { return now + (int64(u[15]&hourBits)-now)&hourBits }
