package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// byHolder moves the copy to the key of a plan, and has the holder of that key remove and restore the access to it.
func (r *Report) byHolder(ctx context.Context, c *client, plan Plan, progress func(Step)) (way, error) {
	now, err := c.account(ctx, r.Resource)
	if err != nil {
		return way{}, err
	}
	if e := now.Properties.Encryption; e != nil && e.Status != nil {
		r.Key = e.Status.Key
	}
	if name, ours := c.ownVault(plan.Key); ours {
		return way{}, fmt.Errorf("the key %s is in the vault %s of this instance, whose revocation is rehearsed "+
			"without its holder: leave the key out", plan.Key, name)
	}
	if !isKey(r.Key, plan.Key) {
		progress(StepMove)
		if r.Key, err = c.move(ctx, r.Resource, plan.Key); err != nil {
			return way{}, fmt.Errorf("move the copy to the key %s: %w", plan.Key, err)
		}
	}
	take, give, err := c.access.Revocation(ctx, r.Resource, r.Key)
	if err != nil {
		return way{}, err
	}
	r.Road = "the holder of the key " + r.Key + " took the access to it away"
	ask := func(do Deed, commands []string) func() error {
		return func() error { plan.Ask(do, commands); return nil }
	}
	return way{take: ask(Revoke, take), giveBack: ask(GiveBack, give), byHolder: true,
		pace: pace{holderEvery, plan.Wait, plan.Waiting}}, nil
}

// isKey reports whether the identifier of a key in use, with or without its version, is that of a wanted one.
func isKey(used, wanted string) bool { return used == wanted || strings.HasPrefix(used, wanted+"/") }

// move puts a resource of the copy under another key, and returns its identifier.
func (c *client) move(ctx context.Context, resource, key string) (string, error) {
	body := map[string]any{"properties": map[string]any{"encryption": map[string]any{
		"keySource": "Microsoft.KeyVault", "keyVaultProperties": map[string]any{"keyVaultUri": key},
	}}}
	if err := c.manage(ctx, http.MethodPatch, accountPath(resource), body, nil); err != nil {
		return "", err
	}
	again := time.NewTicker(holderEvery)
	defer again.Stop()
	for end := time.Now().Add(waitLimit); time.Now().Before(end); {
		now, err := c.account(ctx, resource)
		if err != nil {
			return "", err
		}
		e := now.Properties.Encryption
		switch {
		case e == nil || e.Status == nil || now.Properties.ProvisioningState == "":
		case now.Properties.ProvisioningState == "Failed":
			return "", errors.New(e.Status.Reason)
		case now.Properties.ProvisioningState == "Succeeded":
			return e.Status.Key, nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-again.C:
		}
	}
	return "", fmt.Errorf("it has not ended after %s", waitLimit)
}

// lastYes returns when the key of the resource last allowed its use.
func (r *Report) lastYes(ctx context.Context, c *client) (time.Time, error) {
	now, err := c.account(ctx, r.Resource)
	if err != nil {
		return time.Time{}, err
	}
	if e := now.Properties.Encryption; e != nil && e.Status != nil && e.Status.LastSuccess != "" {
		return time.Parse(time.RFC3339, e.Status.LastSuccess)
	}
	return time.Time{}, errors.New("the copy does not say when the key was last used")
}
