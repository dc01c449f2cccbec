package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/sealed"
)

// States of what was verified.
const (
	VerifiedOpen    = "open"    // everything of it opens
	VerifiedLocked  = "locked"  // its key is not here or was refused; what shows without it is as it should be
	VerifiedDamaged = "damaged" // something of it does not open, or is older than it was
)

// Verified is what verifying one resource came to, or the service's own records, whose resource is empty. Of findings
// it names places, never content.
type Verified struct {
	Resource   string   `json:"resource,omitempty"`
	Space      string   `json:"space"`
	State      string   `json:"state"`
	Reason     string   `json:"reason,omitempty"` // why it is locked
	Containers int      `json:"containers"`
	Records    int      `json:"records"`
	Sealed     int      `json:"sealed,omitempty"` // records of what is locked, which nobody opened
	Findings   []string `json:"findings,omitempty"`
}

// WriteVerification implements armapi.Backups: one Verified as a line of JSON for each resource, as far as its key lets
// it be opened now. The logs are not among it; the audit log has a verification of its own.
func (b backups) WriteVerification(ctx context.Context, by visage.Caller, w io.Writer) error {
	return b.recorded(ctx, by, "verify", func() error {
		return VerifyEach(ctx, b.store, func(v Verified) error {
			line, err := json.Marshal(v)
			if err == nil {
				_, err = w.Write(append(line, '\n'))
			}
			return err
		})
	})
}

// VerifyEach verifies every space of a store and tells of each. The error is told's, or of the verification itself.
func VerifyEach(ctx context.Context, store *sealed.Store, told func(Verified) error) error {
	names, err := account.Names(ctx, store)
	if err != nil {
		return err
	}
	ids, err := store.Spaces(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		v := Verified{Resource: names[visage.ResourceID(id)], Space: id.String(), State: VerifiedOpen}
		tally, err := store.VerifySpace(ctx, id, func(f sealed.Finding) {
			if f.Locked {
				v.State, v.Reason = VerifiedLocked, f.Err.Error()
			} else {
				v.Findings = append(v.Findings, f.Err.Error())
			}
		})
		if errors.Is(err, sealed.ErrNoSpace) {
			continue // dropped meanwhile
		}
		if err != nil {
			return fmt.Errorf("verify %s: %w", id, err)
		}
		if len(v.Findings) > 0 {
			v.State, v.Reason = VerifiedDamaged, ""
		}
		v.Containers, v.Records, v.Sealed = tally.Containers, tally.Records, tally.Sealed
		if err := told(v); err != nil {
			return err
		}
	}
	return nil
}

// ResourceNames returns what the resources of a store are called, by the id of their space, for offline work.
func ResourceNames(ctx context.Context, store *sealed.Store) (map[sealed.SpaceID]string, error) {
	names, err := account.Names(ctx, store)
	bySpace := make(map[sealed.SpaceID]string, len(names))
	for id, name := range names {
		bySpace[sealed.SpaceID(id)] = name
	}
	return bySpace, err
}
