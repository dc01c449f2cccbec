package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed"
)

// OperatorFile is the name of the file, in Config.Dir, that tells the command line and tests how to reach the server.
const OperatorFile = "operator.json"

// Operator is what operator.json holds. Anyone who can read this file has full control of the instance: it has mode
// 0600.
type Operator struct {
	Endpoint       string `json:"endpoint"`     // the base of all planes, without a slash at the end
	Listen         string `json:"listen"`       // the same, as this machine reaches it without what stands before it
	CAFile         string `json:"caFile"`       // PEM; empty when the server uses a certificate from elsewhere, or none
	TenantID       string `json:"tenantId"`     // UUID
	SubscriptionID string `json:"subscription"` // UUID
	ResourceGroup  string `json:"resourceGroup"`
	ClientID       string `json:"clientId"` // UUID
	ClientSecret   string `json:"clientSecret"`
}

// ReadOperator reads the operator.json at path. The error wraps owned.ErrNotOwned for a link, for what is no regular
// file, and for a file that belongs to somebody else or that others can read or change: nothing of it is used.
func ReadOperator(path string) (Operator, error) {
	const longest = 64 << 10 // bytes; it has a few hundred
	b, err := owned.ReadSecret(path, longest)
	if errors.Is(err, fs.ErrNotExist) {
		return Operator{}, fmt.Errorf("no server was started with this directory yet: %s: %w", path, fs.ErrNotExist)
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

// instanceRecord is what the server itself keeps, sealed: the ids of what the first start makes.
type instanceRecord struct {
	TenantID       string
	SubscriptionID string
	ClientID       string // of the operator, and its object id too: people write it into access policies
}

var instances = sealed.NewTable[instanceRecord]("server/instance", 1)

const instanceID = "instance"

// openInstance reads the instance's record, or makes it on the first start.
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
		return instances.In().Put(tx, instanceID, rec)
	})
	if err != nil {
		return instanceRecord{}, fmt.Errorf("open the instance's record: %w", err)
	}
	return rec, nil
}

// operatorRoles are what the operator has on the subscription. Owner is not enough: it says nothing about data.
var operatorRoles = []string{identity.Owner, identity.CognitiveUser, identity.VaultAdministrator}

// ensureOperator makes the operator's application when it is not there, and returns what operator.json shall say. When
// the file is gone, or holds a secret that is not the operator's, it gets a new secret: anyone who can start the server
// controls it already.
func ensureOperator(
	ctx context.Context, identities *identity.Directory, rec instanceRecord, path string,
) (Operator, error) {
	on, err := ReadOperator(path)
	if errors.Is(err, owned.ErrNotOwned) {
		return Operator{}, fmt.Errorf("%w; or delete it, and the next start writes a new one with a new secret", err)
	}
	if err != nil {
		on = Operator{} // whatever else is wrong with the file is cured by writing it anew
	}
	p, found := identities.LookupClient(rec.ClientID)
	if !found {
		p, err = identities.CreateApplication(ctx, identity.Creation{
			Tenant: rec.TenantID, Name: "operator", ID: rec.ClientID, ClientID: rec.ClientID,
		})
		if err != nil {
			return Operator{}, fmt.Errorf("make the operator: %w", err)
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
			return Operator{}, fmt.Errorf("give the operator a role: %w", err)
		}
	}
	if !identities.HasSecret(p.ID, on.ClientSecret) {
		// first: there must be one at any time
		if _, on.ClientSecret, err = identities.AddSecret(ctx, p.ID, 0); err != nil {
			return Operator{}, fmt.Errorf("make the operator's secret: %w", err)
		}
		for _, old := range p.Secrets {
			if err := identities.RemoveSecret(ctx, p.ID, old.ID); err != nil {
				return Operator{}, fmt.Errorf("end the operator's secret: %w", err)
			}
		}
	}
	on.TenantID, on.SubscriptionID, on.ClientID, on.ResourceGroup = rec.TenantID, rec.SubscriptionID, rec.ClientID,
		defaultGroup
	return on, nil
}

// writeOperator puts operator.json into place, whole or not at all.
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

// writeUnlessThere writes a file for its owner alone, unless it is there as it shall be: then a start needs no room on
// the disk for it.
func writeUnlessThere(path string, data []byte) error {
	if old, err := owned.ReadSecret(path, int64(len(data))); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return durable.WriteFile(path, data)
}
