// Package event is what sealed says of itself: what happened to keys and to what they seal, and the errors that name
// the place of something stored that does not open. Every room of sealed reports through it; it stores nothing.
package event

import (
	"github.com/visage-face/visage/sealed/internal/format"
)

// Event is something that happened to keys or to what they seal.
type Event struct {
	Kind  Kind
	Space format.SpaceID // zero for the instance
	Err   error          // for Corrupt what was found, for Locked the cause
	// Note says which protector; what putting a restored space in order came to; the name of a migration; which
	// spaces.
	Note   string
	Format uint32 // for StoreMigrating the format that the store is to have, for StoreMigrated the one that it has
}

// Kind says what happened.
type Kind string

// The kinds of Event.
const (
	RootCreated   Kind = "root created"
	RootOpened    Kind = "root opened"
	RootExposed   Kind = "root exposed"   // a protector of the root is marked Exposed
	RootProtected Kind = "root protected" // a protector was added
	// RootUnprotected: a protector was taken out; RootIgnored: one that was taken out is still in the settings
	RootUnprotected Kind = "root unprotected"
	RootIgnored     Kind = "root protector ignored"
	RootRotating    Kind = "root rotating" // there is a new root key; what the old one sealed is sealed anew
	RootRotated     Kind = "root rotated"
	RootDelayed     Kind = "root rotation delayed" // sealing anew failed, and is tried again
	SpaceCreated    Kind = "space created"
	SpaceOpened     Kind = "space opened"
	SpaceLocked     Kind = "space locked"
	SpaceWiped      Kind = "space wiped" // its keys are gone from memory
	SpaceDropped    Kind = "space dropped"
	SpaceRestored   Kind = "space restored" // it came from a backup, and was put in order
	Corrupt         Kind = "corrupt"        // something stored does not open

	StoreMigrating Kind = "store migrating" // a migration begins
	StoreMigrated  Kind = "store migrated"  // and has ended: the store has the next format
	// MigrationDelayed: a migration of a store that is at work failed, and is tried again
	MigrationDelayed Kind = "store migration delayed"

	// what was deleted still opens in older copies, because the keys could not be turned
	EraseDelayed     Kind = "erase delayed"
	AnchorMissing    Kind = "anchor missing"    // there was no file of anchors, as at the first start with one
	AnchorDelayed    Kind = "anchor delayed"    // the anchors could not be brought up to date
	RoomLow          Kind = "room low"          // the volume is nearly full: nothing new is taken
	RoomRegained     Kind = "room regained"     // and it is not any more
	RollbackAccepted Kind = "rollback accepted" // a space is older than its anchor, and was opened all the same
	KeysStray        Kind = "epoch keys stray"  // spaces that do not exist have epoch keys; the note names them
	// KeysElsewhere: the place of the epoch keys is not this store's any more, so no keys are changed; the note names
	// it
	KeysElsewhere Kind = "epoch keys elsewhere"
	KeysOlder     Kind = "epoch keys older" // the place was put back from an older copy; the note names it
	ClockWrong    Kind = "clock wrong"      // it is too far from that of the database; nothing is done meanwhile
	ClockRight    Kind = "clock right"      // and it is not any more
)

// Report hears of events. It is called from many goroutines and must not block.
type Report func(Event)

// Corrupt reports err, which names a place, and returns it. What cannot be opened because a key is out of reach is not
// corrupt: then it returns what was found, and reports nothing.
func (r Report) Corrupt(err *CorruptError) error {
	if IsOutage(err.Err) {
		return err.Err
	}
	r(Event{Kind: Corrupt, Space: err.Space, Err: err})
	return err
}
