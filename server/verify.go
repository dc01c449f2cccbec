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

// The states of a verified resource.
const (
	VerifiedOpen    = "open"    // all of its data opens
	VerifiedLocked  = "locked"  // its key is missing or was refused; the rest of the checks passed
	VerifiedDamaged = "damaged" // some of its data does not open, or is older than its anchor
)

// Verified is the result of verifying one resource, or the service's own records, whose Resource is empty. Findings
// name places, never content.
type Verified struct {
	Resource   string   `json:"resource,omitempty"`
	Space      string   `json:"space"`
	State      string   `json:"state"`
	Reason     string   `json:"reason,omitempty"` // why it is locked
	Containers int      `json:"containers"`
	Records    int      `json:"records"`
	Sealed     int      `json:"sealed,omitempty"` // records that could not be opened because the resource is locked
	Findings   []string `json:"findings,omitempty"`
}

// WriteVerification implements armapi.Backups: it writes one Verified as a line of JSON for each resource, checking the
// data whose key is available now. It excludes the logs; the audit log has a verification of its own.
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

// VerifyEach verifies every space of a store and calls told with each result. The error is told's, or that of the
// verification.
func VerifyEach(ctx context.Context, store *sealed.Store, told func(Verified) error) error {
	names, err := account.Names(ctx, store)
	if err != nil {
		return err
	}
	ids, err := store.Spaces().List(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		v := Verified{Resource: names[visage.ResourceID(id)], Space: id.String(), State: VerifiedOpen}
		tally, err := store.Space(id).Verify(ctx, func(f sealed.Finding) {
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

// ResourceNames returns the names of a store's resources, by the id of their space, for offline work.
func ResourceNames(ctx context.Context, store *sealed.Store) (map[sealed.SpaceID]string, error) {
	names, err := account.Names(ctx, store)
	bySpace := make(map[sealed.SpaceID]string, len(names))
	for id, name := range names {
		bySpace[sealed.SpaceID(id)] = name
	}
	return bySpace, err
}
