package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/visage-face/visage"
)

// The shapes of what is stored; docs/formats/audit.md has them byte by byte.
const (
	entryMagic   = "VAE\x01" // what it is, and the version of the format
	namedMagic   = "VAE\x02" // the same, of an entry with the name of its actor
	entryHeader  = len(entryMagic) + 8 + sha256.Size
	entryLabel   = "visage/v1/audit-entry\x00"
	genesisLabel = "visage/v1/audit-genesis\x00"

	// MaxEntry is the longest encoding an entry may have, in bytes.
	MaxEntry = 12 << 10
)

// hash is a SHA-256.
type hash = [sha256.Size]byte

// Entry is an event in its place in the log.
type Entry struct {
	Event
	Sequence uint64            // from 1, without gaps
	Previous [sha256.Size]byte // the hash of the entry before; of the first, one that names the instance
	Hash     [sha256.Size]byte // of this entry, its place and Previous included
}

// jsonEntry is an entry as it is exported. The names of its fields are a promise: docs/formats/audit.md.
type jsonEntry struct {
	Sequence   uint64            `json:"sequence"`
	Time       string            `json:"time"`
	Kind       Kind              `json:"kind"`
	Outcome    Outcome           `json:"outcome"`
	Code       string            `json:"code,omitempty"`
	Actor      Actor             `json:"actor"`
	Resource   string            `json:"resource,omitempty"`
	KeyID      string            `json:"keyId,omitempty"`
	KeyVersion string            `json:"keyVersion,omitempty"`
	RequestID  string            `json:"requestId,omitempty"`
	Details    map[Detail]string `json:"details,omitempty"`
	Previous   string            `json:"previous"`
	Hash       string            `json:"hash"`
}

// MarshalJSON writes the entry as docs/formats/audit.md says.
func (e Entry) MarshalJSON() ([]byte, error) {
	j := jsonEntry{
		Sequence: e.Sequence, Time: e.Time.UTC().Format(time.RFC3339Nano), Kind: e.Kind, Outcome: e.Outcome,
		Code:  e.Code,
		Actor: e.Actor, KeyID: e.KeyID, KeyVersion: e.KeyVersion, RequestID: e.RequestID, Details: e.Details,
		Previous: hex.EncodeToString(e.Previous[:]), Hash: hex.EncodeToString(e.Hash[:]),
	}
	if e.Resource != (visage.ResourceID{}) {
		j.Resource = e.Resource.String()
	}
	return json.Marshal(j)
}

// genesis is what the first entry has for the hash of the entry before: no entry of one instance fits another.
func genesis(instance string) hash { return sha256.Sum256([]byte(genesisLabel + instance)) }

// entryHash is the link of the chain. The encoding holds the entry's place and the link before.
func entryHash(encoded []byte) hash {
	h := sha256.New()
	h.Write([]byte(entryLabel))
	h.Write(encoded)
	return hash(h.Sum(nil))
}

// encodeBody encodes an event that clean has returned: the magic, and everything of an entry that does not depend on
// its place.
func encodeBody(e Event) ([]byte, error) {
	b := []byte(entryMagic)
	if e.Actor.Name != "" {
		b = []byte(namedMagic)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixNano()))
	b = append(b, e.Resource[:]...)
	for _, s := range []string{
		string(e.Kind), string(e.Outcome), string(e.Actor.Kind), e.Actor.ID, e.KeyID, e.KeyVersion, e.Code, e.RequestID,
	} {
		b = appendText(b, s)
	}
	if e.Actor.Name != "" {
		b = appendText(b, e.Actor.Name)
	}
	b = append(b, byte(len(e.Details))) // the set of details is closed and smaller than 256
	for _, k := range slices.Sorted(maps.Keys(e.Details)) {
		b = appendText(appendText(b, string(k)), e.Details[k])
	}
	if n := entryHeader - len(entryMagic) + len(b); n > MaxEntry {
		return nil, fmt.Errorf("audit %s: an entry of %d bytes is over the limit of %d", e.Kind, n, MaxEntry)
	}
	return b, nil
}

// place puts an encoded body into its place.
func place(sequence uint64, previous hash, body []byte) []byte {
	magic, rest := body[:len(entryMagic)], body[len(entryMagic):]
	b := make([]byte, 0, entryHeader+len(rest))
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, sequence)
	b = append(b, previous[:]...)
	return append(b, rest...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// errMalformed is wrapped by every error of decoding. None of them quotes the content.
var errMalformed = errors.New("malformed")

// decodeEntry reads what place and encodeBody wrote, and nothing else: what it takes encodes to the same bytes again.
// Kinds, outcomes and details of a later version are taken, as long as they are spelled like ours.
func decodeEntry(b []byte) (Entry, error) {
	if len(b) > MaxEntry || len(b) < entryHeader+8+16 {
		return Entry{}, fmt.Errorf("%w: not an entry of the audit log", errMalformed)
	}
	named := string(b[:len(namedMagic)]) == namedMagic
	if !named && string(b[:len(entryMagic)]) != entryMagic {
		return Entry{}, fmt.Errorf("%w: not an entry of the audit log in format 1 or 2", errMalformed)
	}
	e := Entry{Hash: entryHash(b)}
	b = b[len(entryMagic):]
	e.Sequence, b = binary.BigEndian.Uint64(b), b[8:]
	e.Previous, b = hash(b[:sha256.Size]), b[sha256.Size:]
	e.Time, b = time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC(), b[8:]
	e.Resource, b = visage.ResourceID(b[:16]), b[16:]
	var kind, outcome, actor string
	fields := []struct {
		into  *string
		word  bool
		limit int
	}{
		{&kind, true, maxID}, {&outcome, true, maxID}, {&actor, true, maxID}, {&e.Actor.ID, false, maxID},
		{&e.KeyID, false, maxKeyID}, {&e.KeyVersion, false, maxID}, {&e.Code, false, maxID},
		{&e.RequestID, false, maxID},
	}
	var err error
	for _, f := range fields {
		if *f.into, b, err = cutText(b, f.word, f.limit); err != nil {
			return Entry{}, err
		}
	}
	e.Kind, e.Outcome, e.Actor.Kind = Kind(kind), Outcome(outcome), ActorKind(actor)
	if named {
		if e.Actor.Name, b, err = cutName(b); err != nil {
			return Entry{}, err
		}
	}
	if len(b) == 0 {
		return Entry{}, fmt.Errorf("%w: an entry ends before its details", errMalformed)
	}
	count := int(b[0])
	b = b[1:]
	last := ""
	for range count {
		var k, v string
		if k, b, err = cutText(b, true, maxID); err != nil {
			return Entry{}, err
		}
		if v, b, err = cutText(b, false, maxDetail); err != nil {
			return Entry{}, err
		}
		if k <= last {
			return Entry{}, fmt.Errorf("%w: the details of an entry are out of order", errMalformed)
		}
		if last = k; e.Details == nil {
			e.Details = make(map[Detail]string, count)
		}
		e.Details[Detail(k)] = v
	}
	if len(b) > 0 {
		return Entry{}, fmt.Errorf("%w: an entry has %d bytes too many", errMalformed, len(b))
	}
	return e, nil
}

// cutText takes a text off the front of b. A word is one of a closed set: lower-case letters, dots and hyphens, not
// empty.
func cutText(b []byte, word bool, limit int) (string, []byte, error) {
	text, rest, err := cut(b, limit)
	if err != nil {
		return "", nil, err
	}
	for _, c := range text {
		if c < 0x20 || c > 0x7e || word && !(c >= 'a' && c <= 'z' || c == '.' || c == '-') {
			return "", nil, fmt.Errorf("%w: an entry has a text with byte %#x", errMalformed, c)
		}
	}
	if word && len(text) == 0 {
		return "", nil, fmt.Errorf("%w: an entry has an empty word", errMalformed)
	}
	return string(text), rest, nil
}

// cutName takes the name of an actor off the front of b. An entry without a name has no place for one, so that there is
// one encoding of it.
func cutName(b []byte) (string, []byte, error) {
	name, rest, err := cut(b, maxName)
	if err != nil {
		return "", nil, err
	}
	if len(name) == 0 || !isName(string(name)) {
		return "", nil, fmt.Errorf("%w: an entry has an actor's name that is empty or not printable", errMalformed)
	}
	return string(name), rest, nil
}

// cut takes bytes with their length off the front of b.
func cut(b []byte, limit int) (text, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, fmt.Errorf("%w: an entry ends within the length of a text", errMalformed)
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; n > len(b) || n > limit {
		return nil, nil, fmt.Errorf("%w: an entry has a text of %d bytes", errMalformed, n)
	}
	return b[:n], b[n:], nil
}
