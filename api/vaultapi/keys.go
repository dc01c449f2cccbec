package vaultapi

import (
	"net/http"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/keyvault"
)

func (p *plane) create(r *api.Request) (any, error) {
	var body createBody
	if err := read(r, &body); err != nil {
		return nil, err
	}
	if err := noRelease(body.ReleasePolicy); err != nil {
		return nil, err
	}
	if e := body.PublicExponent; e != nil && *e != 0 && *e != 65537 {
		return nil, badParameter("The public exponent of every key here is 65537: leave public_exponent out.")
	}
	attributes, err := body.Attributes.attributes()
	if err != nil {
		return nil, err
	}
	want := keyvault.NewKey{
		Type: body.Kty, Curve: body.Crv, Operations: operationsOf(body.KeyOps), Attributes: attributes, Tags: body.Tags,
	}
	if body.KeySize != nil {
		want.Bits = *body.KeySize
	}
	k, err := p.Vaults.CreateKey(r.Context(), r.Caller(), ref(r), want)
	if err != nil {
		return nil, err
	}
	return p.bundle(k), nil
}

func (p *plane) importKey(r *api.Request) (any, error) {
	var body importBody
	if err := read(r, &body); err != nil {
		return nil, err
	}
	j := body.Key
	defer func() {
		for _, private := range []bytes{j.D, j.P, j.Q, j.DP, j.DQ, j.QI, j.KeyHSM} {
			clear(private)
		}
	}()
	if err := noRelease(body.ReleasePolicy); err != nil {
		return nil, err
	}
	attributes, err := body.Attributes.attributes()
	if err != nil {
		return nil, err
	}
	k, err := p.Vaults.ImportKey(r.Context(), r.Caller(), ref(r), keyvault.ImportedKey{
		JWK: keyvault.JWK{
			Type: j.Kty, Curve: j.Crv, N: j.N, E: j.E, D: j.D, P: j.P, Q: j.Q, DP: j.DP, DQ: j.DQ, QI: j.QI,
			Others: len(j.Oth) > 0, X: j.X, Y: j.Y,
		},
		Blob: j.KeyHSM, HSM: body.HSM, Operations: operationsOf(j.KeyOps), Attributes: attributes, Tags: body.Tags,
	})
	if err != nil {
		return nil, err
	}
	return p.bundle(k), nil
}

func (p *plane) get(r *api.Request) (any, error) {
	k, err := p.Vaults.Key(r.Context(), r.Caller(), ref(r))
	if err != nil {
		return nil, err
	}
	return p.bundle(k), nil
}

// attest refuses an attestation, which only hardware modules give, after it has looked for the key.
func (p *plane) attest(r *api.Request) (any, error) {
	k, err := p.Vaults.Key(r.Context(), r.Caller(), ref(r))
	if err != nil {
		return nil, err
	}
	return nil, visage.Refuse(visage.Denied, "Forbidden", "The key %s has no attestation: keys of this vault are in "+
		"software, and only a hardware module attests its keys. Get the key without it.", p.kid(k.Ref))
}

func (p *plane) release(r *api.Request) (any, error) {
	var body releaseBody
	if err := read(r, &body); err != nil {
		return nil, err
	}
	if body.Target == "" {
		return nil, badParameter("The body needs the property target, the attestation of the environment.")
	}
	return nil, p.Vaults.Release(r.Context(), r.Caller(), ref(r))
}

func (p *plane) update(r *api.Request) (any, error) {
	var body updateBody
	if err := read(r, &body); err != nil {
		return nil, err
	}
	if err := noRelease(body.ReleasePolicy); err != nil {
		return nil, err
	}
	change := keyvault.KeyChange{Operations: operationsOf(body.KeyOps), Tags: body.Tags}
	if w := body.Attributes; w != nil {
		if err := w.check(); err != nil {
			return nil, err
		}
		change.Enabled = w.Enabled
		if w.NotBefore != nil {
			at := date(w.NotBefore)
			change.NotBefore = &at
		}
		if w.Expires != nil {
			at := date(w.Expires)
			change.Expires = &at
		}
	}
	k, err := p.Vaults.UpdateKey(r.Context(), r.Caller(), ref(r), change)
	if err != nil {
		return nil, err
	}
	return p.bundle(k), nil
}

func (p *plane) list(r *api.Request) (any, error) {
	after, limit, err := window(r)
	if err != nil {
		return nil, err
	}
	page, err := p.Vaults.Keys(r.Context(), r.Caller(), vaultOf(r), after, limit)
	if err != nil {
		return nil, err
	}
	return p.keyList(r, page, "keys", limit, false)
}

func (p *plane) versions(r *api.Request) (any, error) {
	after, limit, err := window(r)
	if err != nil {
		return nil, err
	}
	page, err := p.Vaults.KeyVersions(r.Context(), r.Caller(), ref(r), after, limit)
	if err != nil {
		return nil, err
	}
	return p.keyList(r, page, "keys/"+ref(r).Name+"/versions", limit, true)
}

func (p *plane) keyList(r *api.Request, page keyvault.Page, path string, limit int, versioned bool) (any, error) {
	answer := keyList{Value: []keyItem{}}
	for _, k := range page.Keys {
		answer.Value = append(answer.Value, p.item(k, versioned))
	}
	var err error
	answer.NextLink, err = p.nextLink(r, path, page.Next, limit)
	return answer, err
}

func (p *plane) listDeleted(r *api.Request) (any, error) {
	after, limit, err := window(r)
	if err != nil {
		return nil, err
	}
	page, err := p.Vaults.DeletedKeys(r.Context(), r.Caller(), vaultOf(r), after, limit)
	if err != nil {
		return nil, err
	}
	answer := deletedList{Value: []deletedItem{}}
	for _, k := range page.Keys {
		answer.Value = append(answer.Value, deletedItem{p.item(k, false), p.deletion(k)})
	}
	answer.NextLink, err = p.nextLink(r, "deletedkeys", page.Next, limit)
	return answer, err
}

func (p *plane) remove(r *api.Request) (any, error) {
	k, err := p.Vaults.DeleteKey(r.Context(), r.Caller(), ref(r))
	if err != nil {
		return nil, err
	}
	return deletedBundle{p.bundle(k), p.deletion(k)}, nil
}

func (p *plane) getDeleted(r *api.Request) (any, error) {
	k, err := p.Vaults.DeletedKey(r.Context(), r.Caller(), ref(r))
	if err != nil {
		return nil, err
	}
	return deletedBundle{p.bundle(k), p.deletion(k)}, nil
}

func (p *plane) recover(r *api.Request) (any, error) {
	k, err := p.Vaults.RecoverKey(r.Context(), r.Caller(), ref(r))
	if err != nil {
		return nil, err
	}
	return p.bundle(k), nil
}

func (p *plane) purge(r *api.Request) (any, error) {
	if err := p.Vaults.PurgeKey(r.Context(), r.Caller(), ref(r)); err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusNoContent}, nil
}

func (p *plane) backup(r *api.Request) (any, error) {
	blob, err := p.Vaults.BackupKey(r.Context(), r.Caller(), ref(r))
	if err != nil {
		return nil, err
	}
	return blobAnswer{blob}, nil
}

func (p *plane) restore(r *api.Request) (any, error) {
	var body blobBody
	if err := read(r, &body); err != nil {
		return nil, err
	}
	k, err := p.Vaults.RestoreKey(r.Context(), r.Caller(), vaultOf(r), body.Value)
	if err != nil {
		return nil, err
	}
	return p.bundle(k), nil
}

func (p *plane) rotate(r *api.Request) (any, error) {
	k, err := p.Vaults.RotateKey(r.Context(), r.Caller(), ref(r))
	if err != nil {
		return nil, err
	}
	return p.bundle(k), nil
}

// use handles an operation of a key.
func (p *plane) use(op keyvault.Operation) func(*api.Request) (any, error) {
	return func(r *api.Request) (any, error) {
		var body useBody
		if err := read(r, &body); err != nil {
			return nil, err
		}
		defer clear(body.Value)
		if body.Alg == "" || body.Value == nil {
			return nil, badParameter("The body needs the properties alg and value.")
		}
		if op == keyvault.Verify {
			valid, err := p.Vaults.Verify(r.Context(), r.Caller(), ref(r), body.Alg, body.Digest, body.Value)
			return verifyAnswer{valid}, err
		}
		used, out, err := p.Vaults.Use(r.Context(), r.Caller(), ref(r), op, body.Alg, body.Value)
		if err != nil {
			return nil, err
		}
		return useAnswer{p.kid(used), out}, nil
	}
}

func (p *plane) policy(r *api.Request) (any, error) {
	policy, err := p.Vaults.RotationPolicy(r.Context(), r.Caller(), ref(r))
	if err != nil {
		return nil, err
	}
	return p.policyAnswer(r, policy), nil
}

func (p *plane) setPolicy(r *api.Request) (any, error) {
	var body policyBody
	if err := read(r, &body); err != nil {
		return nil, err
	}
	policy, err := body.policy()
	if err != nil {
		return nil, err
	}
	if policy, err = p.Vaults.SetRotationPolicy(r.Context(), r.Caller(), ref(r), policy); err != nil {
		return nil, err
	}
	return p.policyAnswer(r, policy), nil
}

func (b policyBody) policy() (policy keyvault.RotationPolicy, err error) {
	if policy.Expiry, err = period(b.Attributes.ExpiryTime); err != nil {
		return policy, err
	}
	seen := map[string]bool{}
	for _, a := range b.LifetimeActions {
		var t keyvault.Trigger
		if t.AfterCreate, err = period(a.Trigger.TimeAfterCreate); err != nil {
			return policy, err
		}
		if t.BeforeExpiry, err = period(a.Trigger.TimeBeforeExpiry); err != nil {
			return policy, err
		}
		kind := strings.ToLower(a.Action.Type)
		if t == (keyvault.Trigger{}) || seen[kind] {
			return policy, badParameter("Each lifetime action needs a trigger, and there is at most one of each type.")
		}
		seen[kind] = true
		switch kind {
		case "rotate":
			policy.Rotate = t
		case "notify":
			policy.Notify = t
		default:
			return policy, badParameter("The type of a lifetime action must be Rotate or Notify.")
		}
	}
	return policy, nil
}

// period reads a duration that may be absent or empty.
func period(text *string) (keyvault.Period, error) {
	if text == nil || *text == "" {
		return "", nil
	}
	return keyvault.ParsePeriod(*text)
}

func (p *plane) policyAnswer(r *api.Request, policy keyvault.RotationPolicy) policyBody {
	text := func(p keyvault.Period) *string {
		if p == "" {
			return nil
		}
		s := string(p)
		return &s
	}
	answer := policyBody{
		ID: p.kid(ref(r)) + "/rotationpolicy", LifetimeActions: []lifetimeAction{},
		Attributes: policyAttributes{text(policy.Expiry), policy.Created, policy.Updated},
	}
	for _, a := range []struct {
		kind string
		when keyvault.Trigger
	}{{"Rotate", policy.Rotate}, {"Notify", policy.Notify}} {
		if a.when != (keyvault.Trigger{}) {
			answer.LifetimeActions = append(answer.LifetimeActions,
				lifetimeAction{trigger{text(a.when.AfterCreate), text(a.when.BeforeExpiry)}, action{a.kind}})
		}
	}
	return answer
}
