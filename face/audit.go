package face

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// What an event of kind audit.GroupDelete is about, if it is not the group or list itself: its name and settings.
const (
	erasedContents  = "contents"  // everybody in a deleted group or list, a moment after it
	erasedTemplates = "templates" // of a group or list, by one pack, after a migration to another
)

// event begins the audit event of something that the caller does to a resource, or to ref in it.
func event(kind audit.Kind, by visage.Caller, res visage.Resource, ref Ref) audit.Event {
	e := audit.Event{
		Kind: kind, Outcome: audit.Done, Actor: audit.ActorOf(by), Resource: res.ID, RequestID: by.RequestID,
	}
	if ref != (Ref{}) {
		e.Set(audit.DetailGroup, ref.Kind.String()+"/"+ref.ID)
	}
	return e
}

// setReceipt adds the receipt of an erasure. If its epoch is zero, the epoch key could not be destroyed yet: the store
// retries, and the next receipt of the resource names that epoch.
func setReceipt(e *audit.Event, r sealed.Receipt) {
	if r.Epoch == 0 {
		return
	}
	records, digest := summarise(r)
	e.Set(audit.DetailGeneration, strconv.FormatUint(uint64(r.Generation), 10))
	e.Set(audit.DetailEpoch, strconv.FormatUint(uint64(r.Epoch), 10))
	e.Set(audit.DetailCount, strconv.Itoa(records))
	e.Set(audit.DetailGrade, string(r.Grade))
	e.Set(audit.DetailErased, digest)
}

// summarise returns how many records a receipt is about, and the hash over what it says of each container, hexadecimal.
func summarise(r sealed.Receipt) (records int, digest string) {
	sums := sha256.New()
	for _, c := range r.Erased {
		records += c.Count
		sums.Write(c.Hash[:])
	}
	return records, hex.EncodeToString(sums.Sum(nil))
}

// operationOf is a retention as the audit log has it.
func operationOf(r *Retention) string {
	if r == nil {
		return "removed"
	}
	return strconv.Itoa(r.Days) + " days since " + string(r.Since)
}
