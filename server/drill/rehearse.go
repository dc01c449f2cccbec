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

	holderEvery = 100 * time.Millisecond // between two questions while a person is waited for
	tellEvery   = 15 * time.Second
)

// rehearse removes access to the key of a resource on the copy, and restores it.
func (r *Report) rehearse(ctx context.Context, c *client, plan Plan, progress func(Step)) error {
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
	var w way
	if plan.Key != "" {
		w, err = r.byHolder(ctx, c, plan, progress)
	} else {
		w, err = r.road(ctx, c)
	}
	if err != nil {
		return err
	}
	progress(StepRevoke)
	began := time.Now()
	if err := w.take(); err != nil {
		return fmt.Errorf("remove access to the key: %w", err)
	}
	givenBack := false
	defer func() { // the holder is asked however the rehearsal ends; the copy needs no key any more
		if w.byHolder && !givenBack {
			progress(StepGiveBack)
			_ = w.giveBack()
		}
	}()
	said, err := data.awaits(ctx, http.StatusForbidden, w.pace)
	if err == nil && w.byHolder {
		began, err = r.lastYes(ctx, c)
	}
	took := time.Since(began)
	r.ToRefusal = took.Round(time.Millisecond).String()
	since := "access was removed"
	if w.byHolder {
		since = "the key's last yes"
	}
	r.check(CheckRefused, err == nil && took < lockLimit, said,
		"data operations were refused %s after %s (limit 60 s)", r.ToRefusal, since)
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
	began, givenBack = time.Now(), true
	if err := w.giveBack(); err != nil {
		return fmt.Errorf("restore access to the key: %w", err)
	}
	said, err = data.awaits(ctx, http.StatusOK, w.pace)
	r.ToOpen = time.Since(began).Round(time.Millisecond).String()
	since = "access was restored"
	if w.byHolder {
		since = "its holder was asked to restore access"
	}
	r.check(CheckOpened, err == nil, said,
		"the data was available %s after %s, without a restart", r.ToOpen, since)
	after, err := data.groups(ctx)
	r.check(CheckAnswers, err == nil && after == before, "", "the answers are the same as before")
	return nil
}

// way is a way to remove and restore access to the key on the copy.
type way struct {
	take, giveBack func() error
	byHolder       bool // the holder of the key does both, some time after they were asked to
	pace           pace
}

// road chooses the way without the holder of the key. A vault of this server is deleted and recovered, which needs no
// right on the key; with any other vault, which is not a copy, the resource is locked.
func (r *Report) road(ctx context.Context, c *client) (way, error) {
	now, err := c.account(ctx, r.Resource)
	if err != nil {
		return way{}, err
	}
	if e := now.Properties.Encryption; e != nil && e.Status != nil {
		r.Key = e.Status.Key
	}
	name, ours := c.ownVault(r.Key)
	var one armwire.Vault
	if !ours || c.manage(ctx, http.MethodGet, vaultPath(name), nil, &one) != nil {
		r.Road = "the resource was locked, because its key is in a store elsewhere, which cannot be copied; with " +
			"--rehearsal-key, the holder of a key there revokes it"
		door := func(verb string) func() error {
			return func() error {
				return c.manage(ctx, http.MethodPost, accountPath(r.Resource)+"/encryption:"+verb, nil, nil)
			}
		}
		return way{take: door("lock"), giveBack: door("unlock"), pace: quick}, nil
	}
	r.Road = "the vault " + name + " was deleted"
	return way{pace: quick,
		take: func() error { return c.manage(ctx, http.MethodDelete, vaultPath(name), nil, nil) },
		giveBack: func() error {
			return c.manage(ctx, http.MethodPut, vaultPath(name), armwire.VaultRequest{
				Location:   one.Location,
				Properties: armwire.VaultRequestProperties{CreateMode: "recover", TenantID: c.access.TenantID},
			}, nil)
		}}, nil
}

// ownVault returns the name of the vault that a key is in, and whether it is one of the copy.
func (c *client) ownVault(id string) (name string, ours bool) {
	key, err := azure.ParseKey(id, "", "")
	if err != nil {
		return "", false
	}
	host, _ := visage.ParseOrigin(key.Vault) // a parsed reference has a valid address
	return c.origin.Sub(c.access.VaultsDomain).Below(host)
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

// pace is how often the data is asked for, and how long.
type pace struct {
	every, limit time.Duration
	waiting      func(waited, limit time.Duration) // called every 15 seconds; nil: nobody wants to know
}

var quick = pace{every: askEvery, limit: waitLimit}

// until repeats the request until the answer has a status, for two minutes, and returns the code of the last refusal.
func (c dataClient) until(ctx context.Context, want int) (said string, err error) {
	return c.awaits(ctx, want, quick)
}

// awaits does as until, at a pace.
func (c dataClient) awaits(ctx context.Context, want int, at pace) (said string, err error) {
	again, tell := time.NewTicker(at.every), time.NewTicker(tellEvery)
	defer again.Stop()
	defer tell.Stop()
	for begin := time.Now(); ; {
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
		case time.Since(begin) > at.limit:
			return said, fmt.Errorf("after %s the data plane answers %d %s", at.limit, status, said)
		}
		select {
		case <-ctx.Done():
			return said, context.Cause(ctx)
		case <-again.C:
		case <-tell.C:
			if at.waiting != nil {
				at.waiting(time.Since(begin).Round(time.Second), at.limit)
			}
		}
	}
}
