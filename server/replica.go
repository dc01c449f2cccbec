package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/sealed"
)

// The claim of a replica that is starting: what a first start makes, such as the operator's credential and the default
// resource, is made by one of them.
const (
	startClaim = "server/start"
	startLasts = 30 * time.Second // after a replica that ended while it was starting
	startAsk   = 100 * time.Millisecond
)

// startAlone waits until no other replica is starting. The caller calls started when it has made what a start makes.
func (s *Server) startAlone(ctx context.Context, store *sealed.Store) (started func(), err error) {
	for waited := false; ; {
		claim, err := store.Claim(ctx, startClaim, startLasts)
		if err == nil {
			return claim.Release, nil
		}
		if !errors.Is(err, sealed.ErrClaimed) {
			return nil, fmt.Errorf("start beside other replicas: %w", err)
		}
		if !waited {
			s.log.Info("waiting for another replica, which is starting")
			waited = true
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(startAsk):
		}
	}
}

// isNewStore reports whether no server has got as far as making the ids of the instance.
func isNewStore(ctx context.Context, store *sealed.Store) (first bool, err error) {
	err = store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) error {
		has, err := instances.In().Has(r, instanceID)
		first = !has
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read the record of the instance: %w", err)
	}
	return first, nil
}

// operatorSecret is the operator's secret as replicas share it, so that each can write it into its operator.json. It
// is sealed; who can start a server on the store has what it protects anyway.
type operatorSecret struct{ Value string }

var operatorSecrets = sealed.NewTable[operatorSecret]("server/operator-secret", 1)

// sharedSecret returns the operator's secret that another replica has made; empty: there is none.
func (l *layers) sharedSecret(ctx context.Context) (string, error) {
	if !l.store.Shared() {
		return "", nil
	}
	var rec operatorSecret
	err := l.store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) (err error) {
		rec, err = operatorSecrets.In().Get(r, instanceID)
		return err
	})
	if err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return "", fmt.Errorf("read the operator's secret: %w", err)
	}
	return rec.Value, nil
}

// shareSecret keeps the operator's secret for other replicas.
func (l *layers) shareSecret(ctx context.Context, secret string) error {
	if !l.store.Shared() {
		return nil
	}
	err := l.store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		return operatorSecrets.In().Put(tx, instanceID, operatorSecret{secret})
	})
	if err != nil {
		return fmt.Errorf("store the operator's secret: %w", err)
	}
	return nil
}
