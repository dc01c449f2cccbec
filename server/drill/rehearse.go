package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/keysource/azure"
)

// The limits of waiting for the copy.
const (
	lockLimit = time.Minute     // within which data must be refused
	waitLimit = 2 * time.Minute // after which waiting ends
	askEvery  = 5 * time.Millisecond
)

// rehearse removes access to the key of a resource on the copy, and restores it.
func (r *Report) rehearse(ctx context.Context, c *client, progress func(Step)) error {
	data, err := c.data(ctx, r.Resource)
	if err != nil {
		return err
	}
	if _, err := data.until(ctx, http.StatusOK); err != nil {
		return fmt.Errorf("the copy does not open: %w", err)
	}
	before, err := data.groups(ctx)
	if err != nil {
		return err
	}
	take, giveBack, err := r.road(ctx, c)
	if err != nil {
		return err
	}
	progress(StepRevoke)
	begin := time.Now()
	if err := take(); err != nil {
		return fmt.Errorf("remove access to the key: %w", err)
	}
	said, err := data.until(ctx, http.StatusForbidden)
	r.ToRefusal = time.Since(begin).Round(time.Millisecond).String()
	r.check(CheckRefused, err == nil && time.Since(begin) < lockLimit, said,
		"data operations were refused %s after access was removed (limit 60 s)", r.ToRefusal)
	if err != nil {
		return nil
	}
	progress(StepInspect)
	now, err := c.account(ctx, r.Resource)
	r.check(CheckReason, err == nil && now.Properties.Encryption != nil &&
		now.Properties.Encryption.Status.Reason != "", "", "the resource itself can be read, and states the reason")
	r.check(CheckKeys, c.manage(ctx, http.MethodPost, accountPath(r.Resource)+"/listKeys", nil, nil) == nil, "",
		"its access keys can be listed")
	r.others(ctx, c)

	progress(StepGiveBack)
	begin = time.Now()
	if err := giveBack(); err != nil {
		return fmt.Errorf("restore access to the key: %w", err)
	}
	said, err = data.until(ctx, http.StatusOK)
	r.ToOpen = time.Since(begin).Round(time.Millisecond).String()
	r.check(CheckOpened, err == nil, said,
		"the data was available %s after access was restored, without a restart", r.ToOpen)
	after, err := data.groups(ctx)
	r.check(CheckAnswers, err == nil && after == before, "", "the answers are the same as before")
	return nil
}

// road chooses how to remove and restore access to the key on the copy. A vault of this server is deleted and
// recovered, which needs no right on the key; with any other vault, which is not a copy, the resource is locked.
func (r *Report) road(ctx context.Context, c *client) (take, giveBack func() error, err error) {
	now, err := c.account(ctx, r.Resource)
	if err != nil {
		return nil, nil, err
	}
	if e := now.Properties.Encryption; e != nil && e.Status != nil {
		r.Key = e.Status.Key
	}
	key, err := azure.ParseKey(r.Key, "", "")
	name, ours := "", false
	if err == nil {
		host, _ := visage.ParseOrigin(key.Vault) // a parsed reference has a valid address
		name, ours = c.origin.Sub(c.access.VaultsDomain).Below(host)
	}
	var one armwire.Vault
	if !ours || c.manage(ctx, http.MethodGet, vaultPath(name), nil, &one) != nil {
		r.Road = "the resource was locked, because its key is in a vault elsewhere, which cannot be copied"
		door := func(verb string) func() error {
			return func() error {
				return c.manage(ctx, http.MethodPost, accountPath(r.Resource)+"/encryption:"+verb, nil, nil)
			}
		}
		return door("lock"), door("unlock"), nil
	}
	r.Road = "the vault " + name + " was deleted"
	return func() error { return c.manage(ctx, http.MethodDelete, vaultPath(name), nil, nil) }, func() error {
		return c.manage(ctx, http.MethodPut, vaultPath(name), armwire.VaultRequest{
			Location:   one.Location,
			Properties: armwire.VaultRequestProperties{CreateMode: "recover", TenantID: c.access.TenantID},
		}, nil)
	}, nil
}

// others checks whether resources under the service's key remain available.
func (r *Report) others(ctx context.Context, c *client) {
	var all armwire.Page[armwire.Account]
	if err := c.manage(ctx, http.MethodGet, accountPath(""), nil, &all); err != nil {
		r.check(CheckListed, false, err.Error(), "the other resources can be listed")
		return
	}
	closed := []string{}
	for _, a := range all.Value {
		if a.Name == r.Resource || a.Properties.Encryption != nil && a.Properties.Encryption.Key != nil {
			continue // its customer's key may be in the deleted vault
		}
		data, err := c.data(ctx, a.Name)
		status := 0
		if err == nil {
			status, _, err = data.ask(ctx)
		}
		if err != nil || status != http.StatusOK {
			closed = append(closed, a.Name)
			continue
		}
		r.Others++
	}
	r.check(CheckOthers, len(closed) == 0, strings.Join(closed, ", "),
		"%d other resources, encrypted with the service's key, remain available", r.Others)
}

// dataClient reads stored data of one resource on the data plane.
type dataClient struct {
	*client
	key string
}

func (c dataClient) ask(ctx context.Context) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		c.access.Endpoint+"/face/v1.2/persongroups?top=1000", http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", c.key)
	return c.send(req)
}

func (c dataClient) groups(ctx context.Context) (string, error) {
	status, body, err := c.ask(ctx)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the data plane answers %d", status)
	}
	return string(body), err
}

// until repeats the request until the answer has a status, for two minutes, and returns the code of the last refusal.
func (c dataClient) until(ctx context.Context, want int) (said string, err error) {
	again := time.NewTicker(askEvery)
	defer again.Stop()
	for end := time.Now().Add(waitLimit); ; {
		status, body, err := c.ask(ctx)
		if err != nil {
			return said, err
		}
		var refused struct {
			Error struct{ Code string }
		}
		if status != http.StatusOK && json.Unmarshal(body, &refused) == nil {
			said = refused.Error.Code
		}
		switch {
		case status == want && want == http.StatusOK:
			return "", nil
		case status == want:
			return said, nil
		case time.Now().After(end):
			return said, fmt.Errorf("after two minutes the data plane answers %d %s", status, said)
		}
		select {
		case <-ctx.Done():
			return said, context.Cause(ctx)
		case <-again.C:
		}
	}
}
