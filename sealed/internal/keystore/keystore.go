// Package keystore stores the epoch keys of spaces, and their anchors, apart from the data: in a folder, in a key-value
// store with versions such as that of HashiCorp Vault, or in memory. (A database apart from the data is in the package
// postgres.) A copy of the data without this store opens nothing, and destroying the key of an epoch makes every copy
// of what was sealed under it unreadable. So the store must not lie where the data lies: a database keeps in its
// write-ahead log what was destroyed in its tables.
//
// A key that is lost takes everything with it that was sealed under it, and one that is kept for too long opens what
// was erased. The order of steps, which the package keys holds, leans to the safe side of the two at each moment:
//
//  1. Put. A fresh key is durable here before the transaction that names it in a bundle begins. Its number is higher
//     than that of every key that is here, and Put takes no number twice, so that two processes that turn the same
//     space have a key each.
//  2. Commit. The bundle, and with it the head of the space that the key seals, change in one transaction of the data.
//     If that fails, or if it is not known whether it was made, the key stays: the bundle decides.
//  3. Destroy. When the commit is durable, keys of numbers below that of the bundle's first epoch are destroyed. If
//     that fails, the erasure is not acknowledged, and is done anew.
//
// What a crash leaves is an orphan: a key that no bundle names. One with a lower number than the bundle's first is
// destroyed by the next turn of the space, and by each start; one with a higher number may be of another process that
// is between 1 and 2, so it stays until a later turn has made the bundle's number higher. A key is never destroyed
// because something could not be read: no bundle, no destruction.
//
// An answer that is lost leaves open whether a step was done. A store over a network asks again within the call, and
// takes its own bytes, which no other caller has, for the proof that the step was done. If the call fails all the same,
// the step counts as not done, and what it has left is an orphan.
package keystore

import (
	"context"
	"errors"

	"github.com/visage-face/visage/sealed/internal/format"
)

var (
	// ErrNotFound says that there is no key of that epoch, or no anchor of that space.
	ErrNotFound = errors.New("no such epoch key")
	// ErrExists says that there is a key of that epoch already.
	ErrExists = errors.New("there is an epoch key of this number already")
	// ErrChanged says that another value is there than the one to be replaced.
	ErrChanged = errors.New("another process has replaced it")
)

// Store keeps sealed epoch keys. It is safe for concurrent use, also by several processes that share it. What it
// returns is authenticated by whoever opens it: a store that answers with something else is found out there. Calls of
// stores over a network end within a time limit of their own; where nobody answers, the error is a *OutageError or
// another visage.Outage, and the call may have been done.
type Store interface {
	// Put keeps the sealed key of an epoch; it is durable on return. Of several callers that put the same epoch, one
	// succeeds. Error: ErrExists.
	Put(ctx context.Context, space format.ID, epoch uint32, sealed []byte) error
	// Get returns what Put was given. Error: ErrNotFound.
	Get(ctx context.Context, space format.ID, epoch uint32) ([]byte, error)
	// Replace puts another sealed form of a key in place of the one that is there, which is then destroyed. A crash
	// leaves the one or the other, and maybe the old form beside it until Tidy. Errors: ErrNotFound, ErrChanged.
	Replace(ctx context.Context, space format.ID, epoch uint32, from, to []byte) error
	// Tidy destroys what a crash left of Put and Replace. Nobody may be writing keys of the space meanwhile.
	Tidy(ctx context.Context, space format.ID) error
	// List returns the epochs of a space that have a key, in no order. One that is being destroyed may be among them.
	List(ctx context.Context, space format.ID) ([]uint32, error)
	// DestroyEpoch removes one key for good; one that is not there is no error.
	DestroyEpoch(ctx context.Context, space format.ID, epoch uint32) error
	// Destroy removes every key of a space for good.
	Destroy(ctx context.Context, space format.ID) error
}

// Anchors keeps a small value for each space, which is replaced often. It is safe for concurrent use, also by several
// processes.
type Anchors interface {
	// Anchor returns the value of a space. Error: ErrNotFound.
	Anchor(ctx context.Context, space format.ID) ([]byte, error)
	// SetAnchor puts a value in place of the one that is there, which must be from; nil: there is none. A value of nil
	// removes it. Error: ErrChanged.
	SetAnchor(ctx context.Context, space format.ID, from, to []byte) error
	// Anchored returns the spaces that have a value, in no order.
	Anchored(ctx context.Context) ([]format.ID, error)
}

// Marks keeps the mark of the place: a small value, which says whose place it is. It is safe for concurrent use, also
// by several processes.
type Marks interface {
	// Mark returns the mark. Error: ErrNotFound.
	Mark(ctx context.Context) ([]byte, error)
	// SetMark puts a mark in place of the one that is there, which must be from; nil: there is none. A mark of nil
	// removes it. Of several callers that replace the same mark, one succeeds. Error: ErrChanged.
	SetMark(ctx context.Context, from, to []byte) error
}

// Grade says how far the destruction of a key reaches. A receipt never claims more.
type Grade string

// The grades, from the weakest to the strongest.
const (
	// GradeStore: the keys lie with the data, or in a database that hands its log on. Nothing is promised beyond the
	// deletion itself.
	GradeStore Grade = "D0"
	// GradeDatabase: the key was deleted in a database apart from the data. What survives is that database's
	// write-ahead log and free space, until the server writes over them, and copies that others made.
	GradeDatabase Grade = "D1W"
	// GradeKeyStore: the key was overwritten in a folder apart from the data. What survives is copies of that folder,
	// made by others.
	GradeKeyStore Grade = "D1"
	// GradeVault: the key was destroyed in a key-value store that encrypts what it keeps. What survives is copies that
	// the operators of that store made, under that store's own keys.
	GradeVault Grade = "D2"
)

// Inspector is a Place whose grade changes with how others set it up. It has to be looked at now and then.
type Inspector interface {
	// Inspect looks, and remembers, durably, what it finds of the keys that are there now.
	Inspect(ctx context.Context) error
}

// Place is an open store of the epoch keys of one instance.
type Place interface {
	Store
	Marks
	// Spaces returns the spaces that have keys, in no order.
	Spaces(ctx context.Context) ([]format.ID, error)
	// Grade returns what the destruction of a key reaches as things stand, and what keeps it from reaching more, if
	// that can be changed.
	Grade() (grade Grade, why string)
	// GradeOf returns what the destruction of a key reaches, or has reached: the worst of its life, as far as that was
	// seen.
	GradeOf(ctx context.Context, space format.ID, epoch uint32) (Grade, error)
	// Name says where it is, for people: a folder, or a URL. It holds no secret.
	Name() string
	// Close gives back what it holds.
	Close()
}
