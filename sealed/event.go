package sealed

import (
	"github.com/visage-face/visage/sealed/internal/event"
)

// Event is something that happened to keys or to what they seal.
type Event = event.Event

// EventKind says what happened.
type EventKind = event.Kind

// CorruptError says that something stored does not open: it was changed, moved, put back from an older copy, or taken
// away. It names the place and never the content.
type CorruptError = event.CorruptError

// The kinds of Event.
const (
	RootCreated      = event.RootCreated
	RootOpened       = event.RootOpened
	RootExposed      = event.RootExposed
	RootProtected    = event.RootProtected
	RootUnprotected  = event.RootUnprotected
	RootIgnored      = event.RootIgnored
	RootRotating     = event.RootRotating
	RootRotated      = event.RootRotated
	RootDelayed      = event.RootDelayed
	SpaceCreated     = event.SpaceCreated
	SpaceOpened      = event.SpaceOpened
	SpaceLocked      = event.SpaceLocked
	SpaceWiped       = event.SpaceWiped
	SpaceDropped     = event.SpaceDropped
	SpaceRestored    = event.SpaceRestored
	Corrupt          = event.Corrupt
	StoreMigrating   = event.StoreMigrating
	StoreMigrated    = event.StoreMigrated
	MigrationDelayed = event.MigrationDelayed
	EraseDelayed     = event.EraseDelayed
	ClockWrong       = event.ClockWrong
	ClockRight       = event.ClockRight
	AnchorMissing    = event.AnchorMissing
	AnchorDelayed    = event.AnchorDelayed
	RoomLow          = event.RoomLow
	RoomRegained     = event.RoomRegained
	RollbackAccepted = event.RollbackAccepted
	KeysStray        = event.KeysStray
	KeysElsewhere    = event.KeysElsewhere
	KeysOlder        = event.KeysOlder
)
