package helper

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/visage-face/visage/keysource"
)

// The encoding of what passes between the two processes:
//
//	length u32, of what follows · kind u8 · id u64, of the call · count u8, of fields · for each: length u32, bytes
//
// All numbers are big endian. Every message has exactly the number of fields of its kind.

// protocol is the first thing that each side says. The two may be of different versions of the program when it was
// replaced while the service was running.
const protocol = "visage key store helper 2"

const (
	maxMessage = 64 << 10 // bytes; a wrapped key has about 600
	maxText    = 2 << 10  // bytes of an error
	prefix     = 4        // bytes of a length
	head       = 1 + 8 + 1
)

// kind is what a message is.
type kind byte

// The kinds, with their fields. The first four are calls. Each has, before its own fields, the nanoseconds that are
// left, the label, and the key's URI, version and object.
const (
	wrap     kind = iota + 1 // what is wrapped
	unwrap                   // URI, version, what was wrapped
	describe                 // URI, version
	health                   // a nonce

	hello // protocol, kind, settings, confinement, what was kept
	ready // protocol, what is not confined

	wrapped   // request id, blob, URI, version
	unwrapped // request id, what was wrapped
	described // request id, description
	healthy   // request id, the nonce
	failed    // request id, class (nothing: the time was over), reason, text

	cancelled // nothing: nobody waits for this call any more
	keep      // what the helpers of the store are to know, also in their next lives
	refused   // why the helper cannot begin
	ask       // the name of a file
	file      // its content, or why there is none; what was kept
)

// fieldsOf are the numbers of fields.
var fieldsOf = [...]int{
	wrap: 6, unwrap: 8, describe: 7, health: 6, hello: 5, ready: 2, wrapped: 4, unwrapped: 2, described: 2, healthy: 2,
	failed: 4, cancelled: 0, keep: 1, refused: 1, ask: 1, file: 3,
}

// common is the number of fields that all calls have.
const common = 5

// answerTo are the kinds that answer calls.
var answerTo = [...]kind{wrap: wrapped, unwrap: unwrapped, describe: described, health: healthy}

// message is one message. It may hold a secret.
type message struct {
	kind   kind
	id     uint64
	fields [][]byte
	raw    []byte // what the fields were read from
}

// wipe overwrites what the message was read from.
func (m message) wipe() { clear(m.raw) }

// encode returns the message with its length.
func (m message) encode() ([]byte, error) {
	size := head
	for _, f := range m.fields {
		size += prefix + len(f)
	}
	if size > maxMessage {
		return nil, fmt.Errorf("%d bytes are more than a helper takes", size)
	}
	b := make([]byte, 0, prefix+size)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = append(b, byte(m.kind))
	b = binary.BigEndian.AppendUint64(b, m.id)
	b = append(b, byte(len(m.fields)))
	for _, f := range m.fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b, nil
}

// errMalformed is the error of bytes that are no message.
var errMalformed = errors.New("what came is no message of this protocol")

// decode reads a message without its length. Its fields point into raw.
func decode(raw []byte) (message, error) {
	if len(raw) < head {
		return message{}, errMalformed
	}
	m := message{kind: kind(raw[0]), id: binary.BigEndian.Uint64(raw[1:]), raw: raw}
	count := int(raw[head-1])
	if m.kind == 0 || int(m.kind) >= len(fieldsOf) || fieldsOf[m.kind] != count {
		return message{}, errMalformed
	}
	rest := raw[head:]
	m.fields = make([][]byte, count)
	for i := range m.fields {
		if len(rest) < prefix {
			return message{}, errMalformed
		}
		size := binary.BigEndian.Uint32(rest)
		rest = rest[prefix:]
		if uint64(size) > uint64(len(rest)) {
			return message{}, errMalformed
		}
		m.fields[i] = rest[:size:size]
		rest = rest[size:]
	}
	if len(rest) > 0 {
		return message{}, errMalformed
	}
	return m, nil
}

// receive reads the next message. Its error is io.EOF only between two messages.
func receive(r io.Reader) (message, error) {
	var length [prefix]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return message{}, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size < head || size > maxMessage {
		return message{}, errMalformed
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		clear(raw)
		return message{}, fmt.Errorf("a message ended early: %w", io.ErrUnexpectedEOF)
	}
	m, err := decode(raw)
	if err != nil {
		clear(raw)
	}
	return m, err
}

// transmit writes a message and wipes what it wrote.
func transmit(w io.Writer, m message) error {
	raw, err := m.encode()
	if err != nil {
		return err
	}
	defer clear(raw)
	_, err = w.Write(raw)
	return err
}

// classes are the classes of failures, as the protocol numbers them from 1.
var classes = []error{keysource.ErrDenied, keysource.ErrWrong, keysource.ErrUnknown, keysource.ErrExpired}

// failure returns the error of a key source in a message of kind failed. A class that is not one is ErrUnknown.
func (m message) failure() error {
	e := &keysource.Error{Class: keysource.ErrUnknown, Reason: keysource.Reason(m.fields[2]), Text: string(m.fields[3])}
	if class := m.fields[1]; len(class) == 1 && 0 < class[0] && int(class[0]) <= len(classes) {
		e.Class = classes[class[0]-1]
	}
	return e
}

// failureFields are the fields of a failure, without the request id.
func failureFields(err error) [][]byte {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return [][]byte{nil, nil, nil}
	}
	e, ok := errors.AsType[*keysource.Error](err)
	if !ok {
		e = &keysource.Error{Class: keysource.ErrUnknown, Text: err.Error()}
	}
	for i, class := range classes {
		if errors.Is(e.Class, class) {
			return [][]byte{{byte(i + 1)}, []byte(e.Reason), []byte(fmt.Sprintf("%.*s", maxText, e.Text))}
		}
	}
	return [][]byte{{0}, nil, []byte("an error without a class")}
}

// labelOf reads the label of a call.
func labelOf(raw []byte) (keysource.Label, error) {
	var l keysource.Label
	if len(raw) == 0 {
		return l, nil
	}
	if len(raw) != len(l.Instance)+len(l.Resource)+8 {
		return l, errMalformed
	}
	rest := raw[copy(l.Instance[:], raw):]
	rest = rest[copy(l.Resource[:], rest):]
	l.Generation = binary.BigEndian.Uint64(rest)
	return l, nil
}

// jsonOf encodes what holds no secret.
func jsonOf(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("helper: a description or a confinement cannot be encoded: " + err.Error()) // they are strings and times
	}
	return raw
}
