package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/recovery"
	"github.com/visage-face/visage/sealed"
)

// MakeKit implements armapi.RootKeys.
func (k rootKeys) MakeKit(ctx context.Context, by visage.Caller, want armwire.RecoveryRequest) (any, error) {
	var kit recovery.Kit
	err := func() error {
		local, err := k.cfg.isLocal(want.Local,
			armwire.RecoveryRequest{Recipients: want.Recipients, Threshold: want.Threshold})
		if err != nil {
			return err
		}
		if least := k.cfg.RecoveryThreshold; max(want.Threshold, 1) < least {
			return visage.Refuse(visage.Denied, "RecoveryThresholdTooLow", "No recovery kit is made that %d of its "+
				"recipients open: the setting recovery-threshold demands %d at least. Name %d recipients or more, and "+
				"use \"visage recovery create\" with --threshold %d.", max(want.Threshold, 1), least, least, least)
		}
		var recipients []recovery.Recipient
		for _, text := range want.Recipients {
			key, err := recovery.ParseRecipient([]byte(text))
			if err != nil {
				return refuseKit(err)
			}
			name, err := recovery.Fingerprint(key)
			if err != nil {
				return err
			}
			if !local && !slices.Contains(k.cfg.RecoveryRecipients, name) {
				return visage.Refuse(visage.Denied, "RecoveryRecipientNotAllowed", "No recovery kit is made for the "+
					"recipient %s, which the setting recovery-recipient does not name: a kit opens the root key even "+
					"when the credentials of this request are withdrawn. Run \"visage recovery create\" on the "+
					"machine of the service, as its user, or name the recipient in the setting.", name)
			}
			recipients = append(recipients, key)
		}
		return refuseKit(k.store.RootKey().Kit(ctx, func(version uint32, root []byte) (err error) {
			kit, err = recovery.Make(k.store.Instance(), version, root, recipients, max(want.Threshold, 1))
			return err
		}))
	}()
	e := k.event(audit.RootKit, by)
	e.Set(audit.DetailSubject, kit.ID)
	if err == nil {
		e.Set(audit.DetailAfter, openers(kit, func(recovery.Sealed) bool { return true }))
	}
	if err := audit.Answer(ctx, k.audit, err, e.Ended(err)); err != nil {
		return nil, err
	}
	return kit, nil
}

// openers says how many recipients of a kit are needed, and names those that are meant by the beginnings of the
// fingerprints of their keys.
func openers(kit recovery.Kit, meant func(recovery.Sealed) bool) string {
	text := fmt.Sprintf("%d of", kit.Threshold)
	for _, s := range kit.Shares {
		if meant(s) && len(s.Recipient) > fingerprintStart {
			text += " " + s.Recipient[:fingerprintStart]
		}
	}
	return text
}

// fingerprintStart is how many digits of a fingerprint the audit log has.
const fingerprintStart = 16

// refuseKit puts a refusal of a recovery kit into words.
func refuseKit(err error) error {
	if denied, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok && errors.Is(err, keysource.ErrDenied) {
		return visage.Refuse(visage.Invalid, "InvalidRecoveryRequest", "The recovery kit cannot be made: %v.", denied)
	}
	return err
}

// proofAge is how far the time of a proof may be from the clock of the server.
const proofAge = 5 * time.Minute

// ProveKit implements armapi.RootKeys.
func (k rootKeys) ProveKit(ctx context.Context, by visage.Caller, proof armwire.RecoveryProof) error {
	err := func() error {
		if age := time.Since(proof.Time); age > proofAge || age < -proofAge {
			return visage.Refuse(visage.Invalid, "RecoveryProofInvalid",
				"The proof is of another time than now: set the clock of the machine where the kit was opened.")
		}
		err := k.store.RootKey().Proved(ctx, proof.Kit, proof.Time, proof.Proof)
		if errors.Is(err, sealed.ErrNotProved) {
			return visage.Refuse(visage.Conflict, "RecoveryProofInvalid",
				"The kit does not open the current root key of this instance.")
		}
		return err
	}()
	e := k.event(audit.RootProve, by)
	e.Set(audit.DetailSubject, proof.Kit)
	return audit.Answer(ctx, k.audit, err, e.Ended(err))
}

// Recover opens the data of a server that is not running with the shares of a recovery kit, and wraps the root key
// anew with the protectors of cfg; a key file that does not exist is made. Protectors that opened it before stay.
func Recover(ctx context.Context, cfg Config, kit recovery.Kit, shares []recovery.Share) (err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cfg.rootStores.close()) }()
	if err := cfg.hasData(ctx); err != nil {
		return err
	}
	if err := cfg.makeFolders(); err != nil {
		return err
	}
	protectors, err := cfg.protectors(true)
	if err != nil {
		return err
	}
	place, err := cfg.place()
	if err != nil {
		return err
	}
	place.Protectors = append([]sealed.Protector{kitProtector(kit, shares)}, protectors...)
	store, err := sealed.Open(ctx, place)
	if err != nil {
		return err
	}
	return errors.Join(auditRecovery(ctx, store, kit, shares, cfg.Logger), store.Close())
}

// auditRecovery records that a kit has opened the root key, and with whose shares. If the process ends before, the
// entry is missing, although the root key is wrapped anew: whoever has enough shares can open the data without this
// program too, so nothing depends on the entry.
func auditRecovery(
	ctx context.Context, store *sealed.Store, kit recovery.Kit, shares []recovery.Share, logger *slog.Logger,
) error {
	log, err := audit.Open(ctx, audit.Config{Store: store, Logger: logger})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- log.Run(running) }()
	e := instanceEvent(audit.RootRecover)
	e.Set(audit.DetailSubject, kit.ID)
	e.Set(audit.DetailAfter, openers(kit, func(s recovery.Sealed) bool {
		return slices.ContainsFunc(shares, func(open recovery.Share) bool { return open.Number == s.Number })
	}))
	err = errors.Join(log.Append(ctx, e), log.Settle(ctx))
	stop()
	return errors.Join(err, <-ended)
}

// kitProtector is a recovery kit in the place of the protectors.
func kitProtector(kit recovery.Kit, shares []recovery.Share) sealed.Protector {
	const kind = "recovery kit"
	return sealed.Protector{Name: kind, Kind: kind,
		Recover: func(instance sealed.SpaceID, version uint32) ([]byte, error) {
			switch {
			case kit.Instance != instance.String():
				return nil, fmt.Errorf("the kit is of the instance %s, and this is the instance %s", kit.Instance,
					instance)
			case kit.Version != version:
				return nil, fmt.Errorf("the kit is of version %d of the root key, which has version %d now: use a kit "+
					"that was made after the rotation", kit.Version, version)
			}
			return kit.Open(shares)
		}}
}

// RestoreWithKit is Restore where none of the protectors is left that wrapped the root key of the backup: the shares of
// a recovery kit open it, and it is wrapped anew as Recover does.
func RestoreWithKit(
	ctx context.Context, cfg Config, keyring io.ReadSeeker, backup io.Reader, kit recovery.Kit, shares []recovery.Share,
) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if err := cfg.makeFolders(); err != nil {
		return err
	}
	if err := cfg.restore(ctx, keyring, backup, kitProtector(kit, shares)); err != nil {
		return err
	}
	return Recover(ctx, cfg, kit, shares)
}
