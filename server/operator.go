package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed"
)

// OperatorFile is the name of the file, in Config.Dir, with the server's address and the operator's credential, for the
// command line and tests.
const OperatorFile = "operator.json"

// Operator is the content of operator.json. Anyone who can read this file has full control of the instance: it has mode
// 0600.
type Operator struct {
	Endpoint       string `json:"endpoint"`     // the base of all planes, without a slash at the end
	Listen         string `json:"listen"`       // the same for clients on this machine, without the proxy
	CAFile         string `json:"caFile"`       // PEM; empty when the server uses a certificate from elsewhere, or none
	TenantID       string `json:"tenantId"`     // UUID
	SubscriptionID string `json:"subscription"` // UUID
	ResourceGroup  string `json:"resourceGroup"`
	ClientID       string `json:"clientId"` // UUID
	ClientSecret   string `json:"clientSecret"`

	FederationIssuer string `json:"federationIssuer,omitempty"` // Config.FederationIssuer
}

// ReadOperator reads the operator.json at path. The error wraps owned.ErrNotOwned for a link, for anything but a
// regular file, and for a file that belongs to another user or that others can read or change; such a file is not used.
func ReadOperator(path string) (Operator, error) {
	const longest = 64 << 10 // bytes; it has a few hundred
	b, err := owned.ReadSecret(path, longest)
	if errors.Is(err, fs.ErrNotExist) {
		return Operator{}, fmt.Errorf("no server has been started with this directory: %s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return Operator{}, err
	}
	var o Operator
	if err := json.Unmarshal(b, &o); err != nil {
		return Operator{}, fmt.Errorf("%s is damaged: %w; delete it, and the next start of the server writes a new one",
			path, err)
	}
	return o, nil
}

// instanceRecord is the sealed record of the server itself: the ids that the first start makes.
type instanceRecord struct {
	TenantID       string
	SubscriptionID string
	ClientID       string // of the operator, and its object id too: people write it into access policies
}

var instances = sealed.NewTable[instanceRecord]("server/instance", 1)

const instanceID = "instance"

// unfinishedStart is there until a first start has made all that it makes: the next one makes the rest.
type unfinishedStart struct{}

var unfinishedStarts = sealed.NewTable[unfinishedStart]("server/unfinished-start", 1)

// openInstance reads the instance's record, or creates it on the first start.
func openInstance(ctx context.Context, store *sealed.Store) (instanceRecord, error) {
	var rec instanceRecord
	err := store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		var err error
		rec, err = instances.In().Get(tx, instanceID)
		if !errors.Is(err, sealed.ErrNotFound) {
			return err
		}
		rec = instanceRecord{
			TenantID: visage.NewUUID().String(), SubscriptionID: visage.NewUUID().String(),
			ClientID: visage.NewUUID().String(),
		}
		return errors.Join(instances.In().Put(tx, instanceID, rec),
			unfinishedStarts.In().Put(tx, instanceID, unfinishedStart{}))
	})
	if err != nil {
		return instanceRecord{}, fmt.Errorf("open the instance's record: %w", err)
	}
	return rec, nil
}

// ensureDefaults creates the default resource, once in the life of an instance.
func ensureDefaults(ctx context.Context, l *layers) error {
	operator := l.store.Space(sealed.Operator)
	var unfinished bool
	err := operator.View(ctx, func(r sealed.Reader) (err error) {
		unfinished, err = unfinishedStarts.In().Has(r, instanceID)
		return err
	})
	if err != nil || !unfinished {
		return err
	}
	if !l.accounts.Exists(defaultResource) {
		_, err := l.accounts.Create(ctx, visage.Caller{}, account.Creation{
			Name: defaultResource, Group: defaultGroup, Location: defaultLocation, Tier: visage.S0,
		})
		if err != nil {
			return fmt.Errorf("create the default resource: %w", err)
		}
	}
	return operator.Update(ctx, func(tx sealed.Tx) error { return unfinishedStarts.In().Delete(tx, instanceID) })
}

// operatorRoles are the operator's roles on the subscription. Owner is not enough: it gives no access to data.
var operatorRoles = []string{identity.Owner, identity.CognitiveUser, identity.VaultAdministrator}

// ensureOperator creates the operator's application if it is missing, and returns the content for operator.json. If the
// file is missing, or its secret is not the operator's, the operator gets a new secret: anyone who can start the server
// controls it already.
//
// Replicas share one secret: that of the file, if it is the operator's, or else the one that another replica has kept.
func ensureOperator(ctx context.Context, l *layers, path string) (Operator, error) {
	identities, rec := l.identities, l.instance
	on, err := ReadOperator(path)
	if errors.Is(err, owned.ErrNotOwned) {
		return Operator{}, fmt.Errorf("%w; or delete it, and the next start writes a new one. If others may have read "+
			"its secret, run \"visage identity reset operator\" then, which gives the operator another at all servers "+
			"over the store", err)
	}
	if err != nil {
		on = Operator{} // any other fault of the file is repaired by writing it again
	}
	p, found := identities.LookupClient(rec.ClientID)
	if !found {
		p, err = identities.CreateApplication(ctx, identity.Creation{
			Tenant: rec.TenantID, Name: "operator", ID: rec.ClientID, ClientID: rec.ClientID,
		})
		if err != nil {
			return Operator{}, fmt.Errorf("create the operator: %w", err)
		}
	}
	scope := "/subscriptions/" + rec.SubscriptionID
	for _, role := range operatorRoles {
		if identities.Has(p.ID, role, scope) {
			continue
		}
		_, err := identities.Assign(ctx, "", p.ID, role, scope)
		if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.Conflict {
			continue // it has the role
		}
		if err != nil {
			return Operator{}, fmt.Errorf("assign a role to the operator: %w", err)
		}
	}
	kept, err := l.sharedSecret(ctx)
	if err != nil {
		return Operator{}, err
	}
	valid := l.validSecret(p.ID, kept, on.ClientSecret)
	if valid == "" {
		// first, since there must always be one
		if _, valid, err = identities.AddSecret(ctx, p.ID, 0); err != nil {
			return Operator{}, fmt.Errorf("create the operator's secret: %w", err)
		}
		for _, old := range p.Secrets { // any of them may be that of a file which others have read, and is gone
			if err := identities.RemoveSecret(ctx, p.ID, old.ID); err != nil && !isUnknown(err) {
				return Operator{}, fmt.Errorf("remove the operator's former secret: %w", err)
			}
		}
	}
	on.ClientSecret = valid
	if valid != kept {
		if err := l.shareSecret(ctx, valid); err != nil {
			return Operator{}, err
		}
	}
	on.TenantID, on.SubscriptionID, on.ClientID, on.ResourceGroup = rec.TenantID, rec.SubscriptionID, rec.ClientID,
		defaultGroup
	return on, nil
}

// validSecret returns the first of some values that is a secret of an identity now; empty: none is.
func (l *layers) validSecret(id string, values ...string) string {
	for _, value := range values {
		if l.identities.HasSecret(id, value) {
			return value
		}
	}
	return ""
}

// isUnknown reports whether an object is not there, such as a secret that somebody else has just removed.
func isUnknown(err error) bool {
	refusal, ok := errors.AsType[*visage.Refusal](err)
	return ok && refusal.Kind == visage.NotFound
}

// operatorEvery is how often a server looks whether the operator's secret was replaced.
const operatorEvery = 2 * time.Second

// keepOperator has operator.json follow the operator's secret until ctx ends: when the one in it was removed, such as
// by "visage identity reset operator", the first server that finds that makes another, and the others take it over.
// The operator's other secrets stay: an administrator has added them, or the command that runs removes them.
func (s *Server) keepOperator(ctx context.Context, l *layers) error {
	seen, made, pause := "", "", operatorEvery
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = operatorEvery
		on := s.Operator()
		if l.identities.HasSecret(on.ClientID, on.ClientSecret) {
			continue
		}
		kept, err := l.sharedSecret(ctx)
		if err == nil && kept != on.ClientSecret && kept != seen && !l.identities.HasSecret(on.ClientID, kept) {
			seen = kept // another server has just made it, and this one hears of it by the next round
			continue
		}
		if err == nil {
			err = s.renewOperator(ctx, l, on, kept, &made)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Error("the operator's new secret is not in "+OperatorFile, "err", err)
			pause = time.Minute
		}
	}
}

// renewOperator writes a secret that is the operator's into operator.json. before is the one that was shared a moment
// ago. made is the last one that was made here: if it could not be written, the next attempt does not make another.
func (s *Server) renewOperator(ctx context.Context, l *layers, on Operator, before string, made *string) error {
	started, err := s.startAlone(ctx, l.store)
	if err != nil {
		return err
	}
	defer started()
	path := filepath.Join(s.cfg.Dir, OperatorFile)
	now, err := ReadOperator(path)
	if errors.Is(err, owned.ErrNotOwned) {
		return err
	}
	kept, err := l.sharedSecret(ctx)
	if err != nil {
		return err
	}
	valid := l.validSecret(on.ClientID, kept, now.ClientSecret, *made)
	if valid == "" && kept != before {
		return nil // another server made it while this one waited, and this one hears of it by the next round
	}
	if valid == "" {
		if _, valid, err = l.identities.AddSecret(ctx, on.ClientID, 0); err != nil {
			return fmt.Errorf("create the operator's secret: %w", err)
		}
		*made = valid
	}
	if valid != kept {
		if err := l.shareSecret(ctx, valid); err != nil {
			return err
		}
	}
	on.ClientSecret = valid
	if err := writeOperator(path, on); err != nil {
		return err
	}
	s.operatorMu.Lock()
	s.operator.ClientSecret = on.ClientSecret
	s.operatorMu.Unlock()
	s.log.Info("the operator has another secret, which is in " + OperatorFile)
	return nil
}

// writeOperator writes operator.json atomically.
func writeOperator(path string, o Operator) error {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", OperatorFile, err)
	}
	if err := writeUnlessThere(path, append(b, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// writeUnlessThere writes a file with mode 0600, unless it already has this content: so a start needs no free disk
// space for it.
func writeUnlessThere(path string, data []byte) error {
	if old, err := owned.ReadSecret(path, int64(len(data))); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return durable.WriteFile(path, data)
}
