package identity_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/identity"
)

func ids(keys []identity.PublicKey) []string {
	var all []string
	for _, k := range keys {
		all = append(all, k.ID)
	}
	return all
}

// TestSigningKeysRotate lives through two months: tokens are accepted for their whole life, keys are published a day
// before they sign, and no key is published for ever.
func TestSigningKeysRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, config(nil))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		p, secret := application(t, d)
		published := map[string]time.Time{}
		signed := map[string]bool{}
		var tokens []string
		begin := time.Now()
		for hour := range 60 * 24 {
			synctest.Wait()
			for _, id := range ids(d.PublicKeys()) {
				if _, seen := published[id]; !seen {
					published[id] = time.Now()
				}
			}
			if n := len(d.PublicKeys()); n < 1 || n > 2 {
				t.Fatalf("hour %d: %d keys are published", hour, n)
			}
			id, _ := d.Key()
			if !signed[id] && hour > 0 && time.Since(published[id]) < 24*time.Hour-time.Hour {
				t.Errorf("hour %d: key signs %v after it was published", hour, time.Since(published[id]))
			}
			signed[id] = true
			if hour%24 == 0 {
				tokens = append(tokens, grant(t, d, p, secret, management))
			}
			last := tokens[len(tokens)-1]
			time.Sleep(59 * time.Minute)
			_, err := d.Verify(t.Context(), last, management)
			if fresh := hour%24 == 0; fresh != (err == nil) {
				t.Fatalf("hour %d: a token of %d hours: %v", hour, hour%24, err)
			}
			time.Sleep(time.Minute)
		}
		if len(signed) != 3 && len(signed) != 2 {
			t.Errorf("%d keys signed within %v", len(signed), time.Since(begin))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRotationOnDemandKeepsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, config(nil))
		p, secret := application(t, d)
		before := grant(t, d, p, secret, management)
		old, _ := d.Key()
		time.Sleep(time.Minute)
		if err := d.RotateSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if id, _ := d.Key(); id == old || !slices.Contains(ids(d.PublicKeys()), old) {
			t.Errorf("the old key signs on, or is not published: %v", ids(d.PublicKeys()))
		}
		for _, token := range []string{before, grant(t, d, p, secret, management)} {
			if _, err := d.Verify(t.Context(), token, management); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(66 * time.Minute) // a token's life and the leeway
		if slices.Contains(ids(d.PublicKeys()), old) {
			t.Error("the old key is published though nothing that it signed lives")
		}
		// Nobody runs the directory here, and still there is a key after all have ended.
		time.Sleep(100 * 24 * time.Hour)
		if _, err := d.Verify(t.Context(), grant(t, d, p, secret, management), management); err != nil {
			t.Error(err)
		}
	})
}
