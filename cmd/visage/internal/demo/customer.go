package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

// The second half of the demonstration: a resource with a customer-managed key.

// vipGroup is the group on that resource.
const vipGroup = "vip-guests"

// perPerson is the largest number of faces of a person.
const perPerson = 248

// askForKeys requests customer-managed keys: without approval the service refuses, in a sentence that says how to
// apply.
func (d *demonstration) askForKeys(ctx context.Context) error {
	create := map[string]any{"location": "local", "kind": "Face", "sku": map[string]string{"name": "E0"},
		"properties": map[string]any{}}
	err := d.officer.arm(ctx, http.MethodPut, d.officer.account(), create, nil)
	p, refused := errors.AsType[*problem](err)
	d.must(refused, "a resource of tier E0 was created without approval: %v", err)
	if refused {
		d.say("   without approval: %d %s: %s", p.status, p.code, p.message)
	}
	requests := "/providers/Microsoft.CognitiveServices/accessRequests/demo"
	var request armwire.AccessRequest
	ask := map[string]any{"properties": map[string]string{
		"service": "Face", "region": "local", "contact": "officer@example.org", "reason": "guest list",
	}}
	if err := d.officer.arm(ctx, http.MethodPut, requests, ask, &request); err != nil {
		return err
	}
	d.say("   the request: %s", request.Properties.State)
	if err := d.officer.arm(ctx, http.MethodPost, requests+"/approve", nil, &request); err != nil {
		return err
	}
	d.say("   the operator's answer: %s", request.Properties.State)
	if err := d.officer.arm(ctx, http.MethodPut, d.officer.account(), create, nil); err != nil {
		return err
	}
	var keys armwire.AccountKeys
	if err := d.officer.arm(ctx, http.MethodPost, d.officer.account()+"/listKeys", nil, &keys); err != nil {
		return err
	}
	d.vip = &client{base: d.client.base, key: keys.Key1, http: d.client.http}
	d.say("   resource %s created, tier E0, encrypted with the service's key", customer)
	return nil
}

// makeKey creates a vault and a key in it.
func (d *demonstration) makeKey(ctx context.Context) error {
	o := d.officer.operator
	vault := map[string]any{"location": "local", "properties": map[string]any{
		"tenantId": o.TenantID, "sku": map[string]string{"family": "A", "name": "standard"},
		"enablePurgeProtection": true,
		"accessPolicies": []any{map[string]any{
			"tenantId": o.TenantID, "objectId": o.ClientID,
			"permissions": map[string]any{"keys": []string{"all", "rotate"}},
		}},
	}}
	err := d.officer.arm(ctx, http.MethodPut, "/resourceGroups/"+o.ResourceGroup+
		"/providers/Microsoft.KeyVault/vaults/"+vaultName, vault, nil)
	if err != nil {
		return err
	}
	var made struct {
		Key struct{ Kid string } `json:"key"`
	}
	if err := d.officer.vault(ctx, http.MethodPost, "/keys/"+keyName+"/create",
		map[string]any{"kty": "RSA", "key_size": 2048}, &made); err != nil {
		return err
	}
	d.keyID = made.Key.Kid
	d.say("   %s", d.keyID)
	return nil
}

// enable enrols ten people under the service's key, enables the customer's key, and identifies.
func (d *demonstration) enable(ctx context.Context) error {
	if err := d.vip.createGroup(ctx, vipGroup, "The inner circle of the Thornquist evening",
		"confidential guest list, do not pass on"); err != nil {
		return err
	}
	for _, p := range d.people[:min(10, len(d.people))] {
		s := p.seen[0]
		id, err := d.vip.createPerson(ctx, vipGroup, p.name, p.userData)
		if err != nil {
			return err
		}
		if err := d.vip.addFace(ctx, vipGroup, id, s.face.FaceRectangle, faceData+p.name,
			d.photos[s.photo].bytes); err != nil {
			return err
		}
		d.vips = append(d.vips, id)
	}
	if err := d.vip.train(ctx, vipGroup); err != nil {
		return err
	}
	took, now, err := d.officer.encrypt(ctx,
		map[string]any{"keySource": "Microsoft.KeyVault", "keyVaultProperties": d.keyProperties(""), "register": true})
	if err != nil {
		return err
	}
	d.must(now.State == "active", "the customer's key is %q, not active", now.State)
	d.say("   the data of %s is encrypted with the customer's key after %s", customer, brief(took))
	d.summary = append(d.summary, [2]string{"enabling a customer's key", brief(took)})
	return d.recognised(ctx, "under the customer's key")
}

// keyProperties name the customer's key.
func (d *demonstration) keyProperties(version string) map[string]string {
	if version == "" {
		return map[string]string{"keyVaultUri": d.keyID}
	}
	return map[string]string{"keyVaultUri": d.keyID[:strings.LastIndex(d.keyID, "/")+1] + version}
}

// recognised detects faces and identifies them on the customer's resource.
func (d *demonstration) recognised(ctx context.Context, when string) error {
	known, err := d.recognise(ctx)
	if err != nil {
		return err
	}
	d.say("   %s: %d of %d faces on %s recognised", when, known, d.onFirst, d.photos[0].name)
	d.must(known > 0, "no person is recognised %s", when)
	return nil
}

func (d *demonstration) recognise(ctx context.Context) (known int, err error) {
	faces, err := d.vip.detect(ctx, d.photos[0].bytes)
	if err != nil {
		return 0, err
	}
	d.onFirst = len(faces)
	answers, err := d.vip.identify(ctx, vipGroup, faceIDs(faces))
	for _, a := range answers {
		if len(a.Candidates) > 0 && slices.Contains(d.vips, a.Candidates[0].PersonID) {
			known++
		}
	}
	return known, err
}

// rotate switches the resource to new versions of its key, with few faces and with many.
func (d *demonstration) rotate(ctx context.Context) error {
	once := func(faces int) (time.Duration, error) {
		version, err := d.officer.rotate(ctx)
		if err != nil {
			return 0, err
		}
		took, now, err := d.officer.encrypt(ctx,
			map[string]any{"keySource": "Microsoft.KeyVault", "keyVaultProperties": d.keyProperties(version)})
		if err != nil {
			return 0, err
		}
		d.must(now.Version == version, "the resource uses version %s of the key, not %s",
			now.Version, version)
		d.say("   with %d faces: %s", faces, brief(took))
		return took, nil
	}
	few, err := once(len(d.vips))
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := d.fill(ctx); err != nil {
		return err
	}
	d.say("   %d synthetic faces enrolled through the API in %s", d.Crowd, brief(time.Since(begin)))
	many, err := once(d.Crowd + len(d.vips))
	if err != nil {
		return err
	}
	d.summary = append(
		d.summary, [2]string{"rotating the key",
			fmt.Sprintf("%s with %d faces, %s with %d", brief(few), len(d.vips), brief(many), d.Crowd+len(d.vips))},
	)
	return d.recognised(ctx, "under the new version")
}

// fill enrols synthetic faces from several clients at a time.
func (d *demonstration) fill(ctx context.Context) error {
	const group, clients = "crowd", 16
	if err := d.vip.createGroup(ctx, group, "A crowd", ""); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	var mu sync.Mutex
	next := 0
	for range clients {
		all.Go(func() {
			c := *d.vip // each client counts its own requests
			c.calls, c.waited = 0, 0
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				d.vip.calls, d.vip.waited = d.vip.calls+c.calls, d.vip.waited+c.waited
			}()
			for {
				mu.Lock()
				from := next
				next += perPerson
				mu.Unlock()
				if from >= d.Crowd || ctx.Err() != nil {
					return
				}
				id, err := c.createPerson(ctx, group, fmt.Sprint("somebody ", from/perPerson), "")
				for i := from; i < min(from+perPerson, d.Crowd) && err == nil; i++ {
					err = c.addFace(ctx, group, id, madeUpBox, "", madeUp(i))
				}
				if err != nil {
					cancel(err)
					return
				}
				if done := from / perPerson; done%80 == 79 {
					d.say("   … %d", (done+1)*perPerson)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// revoke disables the key: the data of its resource becomes inaccessible, and no other resource is affected.
func (d *demonstration) revoke(ctx context.Context) error {
	begin := time.Now()
	if err := d.officer.allow(ctx, false); err != nil {
		return err
	}
	var refused *problem
	for refused == nil {
		_, err := d.recognise(ctx)
		p, ok := errors.AsType[*problem](err)
		switch {
		case ok && p.status == http.StatusForbidden:
			refused = p
		case time.Since(begin) > time.Minute:
			d.must(false, "the data is not refused a minute after the key was disabled: %v", err)
			return nil
		case ok && p.status == http.StatusServiceUnavailable: // another replica has heard it, and this one asks the key
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(50 * time.Millisecond):
			}
		case err != nil:
			return err
		}
	}
	took := time.Since(begin)
	d.say("   %d %s after %s: %s", refused.status, refused.code, brief(took), refused.message)
	err := d.vip.do(ctx, http.MethodGet, face+"/persongroups/"+vipGroup, nil, nil)
	p, ok := errors.AsType[*problem](err)
	d.must(ok && p.status == http.StatusForbidden, "a group of the locked resource can be read: %v", err)
	err = d.client.do(ctx, http.MethodGet, face+"/persongroups/"+groupID, nil, nil)
	d.must(err == nil, "another resource is locked as well: %v", err)
	d.say("   the other resource is not affected")
	d.summary = append(d.summary, [2]string{"revoking the key", "the first refusal after " + brief(took)})
	return nil
}

// giveBack enables the key again.
func (d *demonstration) giveBack(ctx context.Context) error {
	begin := time.Now()
	if err := d.officer.allow(ctx, true); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		known, err := d.recognise(ctx)
		if err == nil {
			d.say("   available again after %s, without a restart or loss: %d of %d faces recognised",
				brief(time.Since(begin)), known, d.onFirst)
			d.must(known > 0, "no person is recognised after the key was enabled again")
			return nil
		}
		if p, ok := errors.AsType[*problem](err); !ok || p.status != http.StatusForbidden &&
			p.status != http.StatusServiceUnavailable ||
			time.Since(begin) > time.Minute {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// goBack encrypts the resource with the service's key again, after which the customer's key can be deleted.
func (d *demonstration) goBack(ctx context.Context) error {
	took, _, err := d.officer.encrypt(ctx, map[string]any{"keySource": "Microsoft.CognitiveServices"})
	if err != nil {
		return err
	}
	d.say("   the data is encrypted with the service's key again after %s", brief(took))
	if err := d.officer.vault(ctx, http.MethodDelete, "/keys/"+keyName, nil, nil); err != nil {
		return err
	}
	return d.recognised(ctx, "with the customer's key deleted")
}

// told shows the entries of the audit log about all these steps, and verifies the log.
func (d *demonstration) told(ctx context.Context, dir string) (err error) {
	store, err := server.OpenStore(ctx, server.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := store.Close(); err == nil {
			err = closeErr
		}
	}()
	return d.listAudit(ctx, store)
}

func (d *demonstration) listAudit(ctx context.Context, store *sealed.Store) error {
	seen := map[audit.Kind]int{}
	total := 0
	var lines []string
	for e, err := range audit.Read(store).Entries(ctx, audit.Query{}) {
		if err != nil {
			return err
		}
		total++
		seen[e.Kind]++
		if strings.HasPrefix(string(e.Kind), "custody.") {
			lines = append(
				lines, fmt.Sprintf("   %s  %-16s %-8s %s", e.Time.Format("15:04:05.000"), e.Kind, e.Outcome,
					e.Details[audit.DetailState]),
			)
		}
	}
	slices.Reverse(lines) // entries come newest first
	for _, l := range lines {
		d.say("%s", l)
	}
	for _, k := range []audit.Kind{audit.CustodyEnable, audit.CustodyLock, audit.CustodyRestore, audit.CustodyDisable,
		audit.RequestApprove} {
		d.must(seen[k] > 0, "the audit log has no entry of kind %s", k)
	}
	d.say("   %d entries in all, chained and signed", total)
	d.summary = append(
		d.summary, [2]string{
			"audit", fmt.Sprintf("%d entries, of which %d record the use of a key", total,
				seen[audit.KeyWrap]+seen[audit.KeyUnwrap]+seen[audit.KeyProbe]),
		},
	)
	return nil
}

// brief formats a duration for people.
func brief(t time.Duration) string {
	if t < time.Second {
		return fmt.Sprintf("%.0f ms", float64(t)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", t.Seconds())
}
