package prove_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/awskms"
)

const (
	awsPlace   = "awskms://eu-central-1/111122223333"
	awsKeys    = "arn:aws:kms:eu-central-1:111122223333:key/"
	awsSession = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">` +
		`<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>` +
		`secret of the session</SecretAccessKey><SessionToken>session</SessionToken><Expiration>2100-01-01T00:00:00Z` +
		`</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
	awsNoRole = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>` +
		`<Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error>` +
		`<RequestId>1</RequestId></ErrorResponse>`
)

// awsWays are the ways to revoke a key, and what KMS says then; empty: STS says it.
var awsWays = map[string]string{
	"rights": "AccessDeniedException", "disabled": "DisabledException", "deletion": "KMSInvalidStateException",
	"gone": "NotFoundException", "role": "",
}

// answerAWS answers as KMS and STS do, in their wire formats.
func answerAWS(c *cloud, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", "1")
	operation, isKMS := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !isKMS {
		w.Header().Set("Content-Type", "text/xml")
		_, key, _ := strings.Cut(r.PostFormValue("RoleArn"), "visage-")
		if c.way(key) == "role" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, awsNoRole)
			return
		}
		fmt.Fprint(w, awsSession)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	var req struct {
		KeyID                     string `json:"KeyId"`
		Plaintext, CiphertextBlob []byte
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	key := strings.TrimPrefix(req.KeyID, awsKeys)
	way := c.way(key)
	answer := map[string]any{"KeyId": req.KeyID, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
	switch said := awsWays[way]; {
	case said != "" && (operation != "DescribeKey" || way != "deletion"):
		w.WriteHeader(http.StatusBadRequest)
		answer = map[string]any{"__type": said, "message": "no"}
	case operation == "DescribeKey":
		about := map[string]any{"Arn": req.KeyID, "KeyId": key, "KeyState": "Enabled", "KeySpec": "SYMMETRIC_DEFAULT",
			"KeyUsage": "ENCRYPT_DECRYPT", "KeyManager": "CUSTOMER"}
		if way == "deletion" {
			about["KeyState"], about["DeletionDate"] = "PendingDeletion", time.Now().AddDate(0, 0, 7).Unix()
		}
		answer = map[string]any{"KeyMetadata": about}
	case operation == "Encrypt":
		answer["CiphertextBlob"] = append([]byte(key), req.Plaintext...)
	default:
		answer["Plaintext"] = req.CiphertextBlob[len(key):]
	}
	_ = json.NewEncoder(w).Encode(answer) // within this process
}

// TestTimeToBlockInAWS revokes keys in AWS in each way that its documents have.
func TestTimeToBlockInAWS(t *testing.T) {
	chance := chance(t)
	synctest.Test(t, func(t *testing.T) {
		cloud := newCloud(t, "*.eu-central-1.amazonaws.com", answerAWS)
		connect := func() (opener, error) {
			servers, err := awskms.NewServers(awskms.Config{Address: awsPlace, Roots: cloud.roots, Dial: cloud.dial})
			if err != nil {
				return nil, err
			}
			return func(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
				role, err := awskms.RoleARN(awsPlace, "visage-"+key.Name)
				if err != nil {
					return nil, err
				}
				return servers.Open(key, awskms.WebIdentity(role, string(as),
					func(context.Context) (string, time.Time, error) { return "a.b.c", time.Time{}, nil }))
			}, nil
		}
		cloud.timeToBlock(t, chance, awsPlace, slices.Sorted(maps.Keys(awsWays)), connect)
	})
}
