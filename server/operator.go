package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed"
)

// OperatorFile is the name of the file, in Config.Dir, that tells the command line and tests how to reach the server.
const OperatorFile = "operator.json"

// Operator is what operator.json holds. Whoever can read it rules the instance: it has mode 0600.
type Operator struct {
	Endpoint       string `json:"endpoint"`     // the base of all planes, without a slash at the end
	CAFile         string `json:"caFile"`       // PEM; empty when the server uses a certificate from elsewhere, or none
	TenantID       string `json:"tenantId"`     // UUID
	SubscriptionID string `json:"subscription"` // UUID
	ResourceGroup  string `json:"resourceGroup"`
	ClientID       string `json:"clientId"` // UUID
	ClientSecret   string `json:"clientSecret"`
}

// ReadOperator reads the operator.json at path.
func ReadOperator(path string) (Operator, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Operator{}, fmt.Errorf("%s does not exist: no server was started with this directory yet: %w", path,
			fs.ErrNotExist)
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

// operatorRecord is what the server itself keeps, sealed. Of the secret it keeps only a digest; 32 random bytes need no
// salt.
type operatorRecord struct {
	TenantID       string
	SubscriptionID string
	ClientID       string
	SecretSHA256   []byte
}

var operators = sealed.NewTable[operatorRecord]("server/operator", 1)

// operator proves the operator's secret. It is immutable and safe for concurrent use.
type operator struct {
	record operatorRecord
}

// openOperator reads the operator's record, or makes it on the first start, and returns with it what operator.json
// shall say. When the file is gone, or holds a secret that is not the operator's, it gets a new secret: whoever can
// start the server rules it already.
func openOperator(ctx context.Context, store *sealed.Store, path string) (*operator, Operator, error) {
	on, err := ReadOperator(path)
	if err != nil {
		on = Operator{} // whatever is wrong with the file is cured by writing it anew
	}
	var rec operatorRecord
	err = store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		var err error
		rec, err = operators.In().Get(tx, "operator")
		if errors.Is(err, sealed.ErrNotFound) {
			rec = operatorRecord{TenantID: newUUID(), SubscriptionID: newUUID(), ClientID: newUUID()}
		} else if err != nil {
			return err
		}
		digest := sha256.Sum256([]byte(on.ClientSecret))
		if subtle.ConstantTimeCompare(digest[:], rec.SecretSHA256) == 1 {
			return nil
		}
		secret := make([]byte, 32)
		rand.Read(secret) // never fails: the runtime ends the process instead
		on.ClientSecret = base64.RawURLEncoding.EncodeToString(secret)
		digest = sha256.Sum256([]byte(on.ClientSecret))
		rec.SecretSHA256 = digest[:]
		return operators.In().Put(tx, "operator", rec)
	})
	if err != nil {
		return nil, Operator{}, fmt.Errorf("open operator's record: %w", err)
	}
	on.TenantID, on.SubscriptionID, on.ClientID, on.ResourceGroup = rec.TenantID, rec.SubscriptionID, rec.ClientID,
		defaultGroup
	return &operator{rec}, on, nil
}

// Principal implements api.Tokens for the one bearer there is as yet: the operator's client secret itself.
func (o *operator) Principal(_ context.Context, bearer string) (visage.Principal, error) {
	digest := sha256.Sum256([]byte(bearer)) // of equal length, so that comparing tells nothing of the secret's
	if subtle.ConstantTimeCompare(digest[:], o.record.SecretSHA256) != 1 {
		return visage.Principal{}, visage.Refuse(visage.Unauthenticated, "InvalidAuthenticationToken",
			"The bearer token is not the operator's client secret; operator.json in the server's directory holds it.")
	}
	return visage.Principal{
		Method: "operator", ObjectID: o.record.ClientID, AppID: o.record.ClientID, Tenant: o.record.TenantID,
	}, nil
}

// writeOperator puts operator.json into place, whole or not at all.
func writeOperator(path string, o Operator) error {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", OperatorFile, err)
	}
	if err := durable.WriteFile(path, append(b, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// newUUID returns a random UUID, version 4.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the process instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
