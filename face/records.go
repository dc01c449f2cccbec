package face

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
)

// The tables of a resource's space. The contents of a collection are in containers named by its incarnation, a random
// id that each creation gets anew. Deleting a collection is one transaction that forgets the incarnation: a new
// collection of the same id starts empty, even while the old rows still wait to be dropped.
var (
	collections = sealed.NewTable[collectionRecord]("face.collection", 1) // In(kind), by the caller's id
	states      = sealed.NewTable[stateRecord]("face.state", 1)           // In(kind), by incarnation
	persons     = sealed.NewTable[personRecord]("face.person", 1)         // In(incarnation), by person id
	// In(collectionRecord.templates), by persisted face id
	faces = sealed.NewTable[faceRecord]("face.face", 2, sealed.FixedSize(), sealed.Earlier(1, earlierFace))
	// In(incarnation), by persisted face id; only where set
	userData   = sealed.NewTable[userDataRecord]("face.userdata", 1)
	detections = sealed.NewTable[detectionRecord]("face.detection", 1) // In(hour), by face id
	// In(), by hour: the existing containers of detections
	hours  = sealed.NewTable[hourRecord]("face.hour", 1)
	totals = sealed.NewTable[totalsRecord]("face.totals", 1) // In(), one record
	jobs   = sealed.NewTable[jobRecord]("face.job", 1)       // In(), by incarnation: trainings that have not ended
	trash  = sealed.NewTable[trashRecord]("face.trash", 1)   // In(), by trashRecord.id: contents to drop
)

// totalsID is the id of the only record of totals.
const totalsID = "totals"

// collectionRecord is a list or group without its contents.
type collectionRecord struct {
	ID          string  `cbor:"1,keyasint"`
	Incarnation uuid    `cbor:"2,keyasint"`
	Name        string  `cbor:"3,keyasint"`
	UserData    *string `cbor:"4,keyasint"`
	Model       string  `cbor:"5,keyasint"` // the recognition model
	Networks    string  `cbor:"6,keyasint"` // the recogniser's Name at creation, or at the last completed migration
	// Templates names the container of the faces; zero: it has the name of the incarnation. Each migration makes a new
	// one.
	Templates uuid             `cbor:"7,keyasint,omitzero"`
	Migration *migrationRecord `cbor:"8,keyasint,omitempty"` // nil: none is in progress
}

// migrationRecord is a migration to another pack that is in progress. Its templates are stored beside those of the
// collection until it is complete, under the same ids, persons and sequence numbers.
type migrationRecord struct {
	Model     string `cbor:"1,keyasint"`
	Networks  string `cbor:"2,keyasint"`
	Templates uuid   `cbor:"3,keyasint"`
	Started   int64  `cbor:"4,keyasint"` // Unix seconds
}

// stateRecord holds what changes with the contents of a collection, in the same transactions.
type stateRecord struct {
	Persons  int    `cbor:"1,keyasint"` // in a group
	Faces    int    `cbor:"2,keyasint"` // in a list, or of all persons of a group
	Sequence uint64 `cbor:"3,keyasint"` // of the face added last; never falls
	// searches see the faces up to this number: UpTo of the last successful training
	Trained  uint64         `cbor:"4,keyasint"`
	Training trainingRecord `cbor:"5,keyasint"`
	// of the last enrolment in a list, since the Unix epoch; see dayRecord
	Day  int64 `cbor:"6,keyasint"`
	Sent int   `cbor:"7,keyasint,omitempty"` // of Faces, those with a template of the migration in progress
	// the latest changes of the contents
	Changes changesRecord `cbor:"8,keyasint,omitzero"`
	// the number of the last change that the gallery of a trained collection has to follow
	Followed uint64 `cbor:"9,keyasint,omitempty"`

	noted   []change // to be written by putState
	written []change // by putState in this transaction, the last of Changes
}

// trainingRecord is the latest training. Times are Unix microseconds; zero: it has not happened yet.
type trainingRecord struct {
	Status      Status `cbor:"1,keyasint"` // empty: never asked for
	Created     int64  `cbor:"2,keyasint"`
	LastAction  int64  `cbor:"3,keyasint"`
	LastSuccess int64  `cbor:"4,keyasint"`
	UpTo        uint64 `cbor:"5,keyasint"` // the sequence number for Trained after success
	Message     string `cbor:"6,keyasint"`
}

// personRecord is a person of a group.
type personRecord struct {
	ID       uuid    `cbor:"1,keyasint"`
	Name     string  `cbor:"2,keyasint"`
	UserData *string `cbor:"3,keyasint"`
	Faces    []uuid  `cbor:"4,keyasint"` // in the order they were added
	// Unix seconds at which the last face was added or, without faces, the person was created; zero: not recorded, as
	// in records of early versions
	Enrolled int64 `cbor:"5,keyasint"`
	// parallel to Faces; absent in records of early versions, and zero for the faces that these had
	Enrolments []enrolmentRecord `cbor:"6,keyasint,omitempty"`
}

// enrolmentRecord says of a face of a person when it was enrolled and how well it could be seen. The zero value stands
// for what is not recorded.
type enrolmentRecord struct {
	_       struct{}     `cbor:",toarray"`
	Added   int64        // Unix seconds
	Quality vision.Grade // for recognition
}

// faceRecord has the same size for every face of a collection.
type faceRecord struct {
	ID       uuid
	Person   uuid   // zero in a list
	Sequence uint64 // from 1, rising in the order of enrolment
	Code     gallery.Code
}

type userDataRecord struct {
	UserData string `cbor:"1,keyasint"`
}

// detectionRecord is a detected face until it expires.
type detectionRecord struct {
	ID       uuid        `cbor:"1,keyasint"`
	Expires  int64       `cbor:"2,keyasint"` // Unix milliseconds; from then on it is not found
	Model    string      `cbor:"3,keyasint"`
	Networks string      `cbor:"4,keyasint"`
	Earlier  earlierCode `cbor:"5,keyasint,omitempty"` // instead of Code, in records of early versions
	Code     storedCode  `cbor:"6,keyasint,omitempty"`
}

type hourRecord struct {
	Hour int64 `cbor:"1,keyasint"`
}

type totalsRecord struct {
	Collections [LargePersonGroup + 1]int `cbor:"1,keyasint"` // by kind
	Persons     [LargePersonGroup + 1]int `cbor:"2,keyasint"` // in all groups of a kind
}

type jobRecord struct {
	Kind Kind   `cbor:"1,keyasint"`
	ID   string `cbor:"2,keyasint"`
	Of   uuid   `cbor:"3,keyasint"`
}

type trashRecord struct {
	Of        uuid `cbor:"1,keyasint"`
	Templates bool `cbor:"2,keyasint,omitempty"` // only templates of one pack: the collection may still exist
}

// id is the id of the record. It differs for templates that are dropped while the collection exists, and for all
// contents of a deleted collection.
func (t trashRecord) id() string {
	if t.Templates {
		return "templates/" + t.Of.String()
	}
	return t.Of.String()
}

// addFace appends a face, enrolled now.
func (p *personRecord) addFace(id uuid, quality vision.Grade) {
	p.Enrolled = time.Now().Unix()
	enrolments := make([]enrolmentRecord, len(p.Faces), len(p.Faces)+1)
	copy(enrolments, p.Enrolments)
	p.Enrolments = append(enrolments, enrolmentRecord{Added: p.Enrolled, Quality: quality})
	p.Faces = append(slices.Clip(p.Faces), id)
}

// dropFaces removes faces.
func (p *personRecord) dropFaces(gone ...uuid) {
	var ids []uuid
	var enrolments []enrolmentRecord
	for i, id := range p.Faces {
		if slices.Contains(gone, id) {
			continue
		}
		ids = append(ids, id)
		if len(p.Enrolments) > 0 {
			enrolments = append(enrolments, p.Enrolments[i])
		}
	}
	p.Faces, p.Enrolments = ids, enrolments
}

// code returns the code of the face's template. It is never nil.
func (d detectionRecord) code() gallery.Code {
	if d.Code == nil {
		return gallery.Code(d.Earlier)
	}
	return gallery.Code(d.Code)
}

// storedCode is a code as a field of a record.
type storedCode gallery.Code

// MarshalBinary returns the code itself, so that no copy has to be cleared.
func (c storedCode) MarshalBinary() ([]byte, error) { return c, nil }

// UnmarshalBinary refuses bytes that are not a code.
func (c *storedCode) UnmarshalBinary(b []byte) error {
	if err := gallery.Code(b).Check(len(b) / 2); err != nil {
		return err
	}
	*c = bytes.Clone(b)
	return nil
}

// earlierCode is a code that an early version stored as a template: each number as a float32 (IEEE 754), little endian.
type earlierCode gallery.Code

// MarshalBinary writes none, because new records have a storedCode.
func (c earlierCode) MarshalBinary() ([]byte, error) {
	if len(c) != 0 {
		return nil, errors.New("a template must be stored as a code")
	}
	return nil, nil
}

// UnmarshalBinary reads a template and encodes it.
func (c *earlierCode) UnmarshalBinary(b []byte) error {
	if len(b)%4 != 0 {
		return fmt.Errorf("template has %d bytes, which is not a multiple of 4", len(b))
	}
	v := make([]float32, len(b)/4)
	defer clear(v)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	code, err := gallery.Encode(v)
	*c = earlierCode(code)
	return err
}

// faceHeader is the length of an encoded face before its code: two ids and a number.
const faceHeader = 16 + 16 + 8

// MarshalBinary encodes the face: id, person, sequence (little endian), code.
func (f faceRecord) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, faceHeader+len(f.Code))
	b = append(b, f.ID[:]...)
	b = append(b, f.Person[:]...)
	b = binary.LittleEndian.AppendUint64(b, f.Sequence)
	return append(b, f.Code...), nil
}

// UnmarshalBinary decodes the result of MarshalBinary.
func (f *faceRecord) UnmarshalBinary(b []byte) error {
	found, err := parseFace(b)
	if err != nil {
		return err
	}
	if err := found.Code.Check(len(found.Code) / 2); err != nil {
		return err
	}
	found.Code = bytes.Clone(found.Code)
	*f = found
	return nil
}

// parseFace decodes the result of MarshalBinary, but does not check the code, which stays in b.
func parseFace(b []byte) (f faceRecord, err error) {
	if len(b) < faceHeader {
		return f, fmt.Errorf("face record has only %d bytes", len(b))
	}
	copy(f.ID[:], b)
	copy(f.Person[:], b[16:])
	f.Sequence = binary.LittleEndian.Uint64(b[32:])
	f.Code = b[faceHeader:]
	return f, nil
}

// earlierFace converts an encoded face of version 1, which has a template instead of a code: see earlierCode.
func earlierFace(b []byte) ([]byte, error) {
	f, err := parseFace(b)
	if err != nil {
		return nil, err
	}
	var code earlierCode
	if err := code.UnmarshalBinary(f.Code); err != nil {
		return nil, err
	}
	defer clear(code)
	f.Code = gallery.Code(code)
	return f.MarshalBinary()
}

// Status is the progress of a training, in the words of contract §8 for v1.2.
type Status string

// The states of a training.
const (
	NotStarted Status = "notStarted" // requested and waiting
	Running    Status = "running"
	Succeeded  Status = "succeeded"
	Failed     Status = "failed"
)

// underWay reports whether a training was requested and has not ended.
func (t trainingRecord) underWay() bool { return t.Status == NotStarted || t.Status == Running }

// templates names the container of the collection's faces.
func (c collectionRecord) templates() uuid {
	if c.Templates == (uuid{}) {
		return c.Incarnation
	}
	return c.Templates
}

func (c collectionRecord) faces() sealed.Container[faceRecord] {
	return faces.In(c.templates().String())
}

// next returns the collection as the migration in progress will leave it.
func (c collectionRecord) next() collectionRecord {
	m := c.Migration
	c.Model, c.Networks, c.Templates, c.Migration = m.Model, m.Networks, m.Templates, nil
	return c
}

// sides returns the collection once for each pack that has templates of it: one side, and during a migration also the
// next.
func (c collectionRecord) sides() []collectionRecord {
	if c.Migration == nil {
		return []collectionRecord{c}
	}
	return []collectionRecord{c, c.next()}
}

// sameSides refuses to store templates that were made before a migration of the collection began or ended.
func (c collectionRecord) sameSides(before collectionRecord) error {
	now, then := c.sides(), before.sides()
	same := len(now) == len(then)
	for i := 0; same && i < len(now); i++ {
		same = now[i].templates() == then[i].templates()
	}
	if !same {
		return visage.Refuse(visage.Conflict, "ConcurrentOperationConflict",
			"A migration of %q started or ended during the request. Send the photo again.", c.ID)
	}
	return nil
}
