package gcpkms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// The requests and answers of the REST definition of cloudkms v1. Integers of 64 bits are strings in its JSON.
type (
	encryptRequest struct {
		Plaintext    []byte    `json:"plaintext"`
		PlaintextCRC *checksum `json:"plaintextCrc32c"`
		AAD          []byte    `json:"additionalAuthenticatedData"`
		AADCRC       *checksum `json:"additionalAuthenticatedDataCrc32c"`
	}
	encryptAnswer struct {
		Name              string    `json:"name"` // of the version
		Ciphertext        []byte    `json:"ciphertext"`
		CiphertextCRC     *checksum `json:"ciphertextCrc32c"`
		VerifiedPlaintext bool      `json:"verifiedPlaintextCrc32c"`
		VerifiedAAD       bool      `json:"verifiedAdditionalAuthenticatedDataCrc32c"`
	}
	// decryptRequest and decryptAnswer are those of decrypt and of asymmetricDecrypt, which takes no associated data.
	decryptRequest struct {
		Ciphertext    []byte    `json:"ciphertext"`
		CiphertextCRC *checksum `json:"ciphertextCrc32c"`
		AAD           []byte    `json:"additionalAuthenticatedData,omitempty"`
		AADCRC        *checksum `json:"additionalAuthenticatedDataCrc32c,omitempty"`
	}
	decryptAnswer struct {
		Plaintext          []byte    `json:"plaintext"`
		PlaintextCRC       *checksum `json:"plaintextCrc32c"`
		VerifiedCiphertext bool      `json:"verifiedCiphertextCrc32c"` // only of asymmetricDecrypt
	}
)

// inner returns what was decrypted, if it has arrived whole.
func (d decryptAnswer) inner() ([]byte, error) {
	if len(d.Plaintext) == 0 || !d.PlaintextCRC.matches(d.Plaintext) {
		clear(d.Plaintext)
		return nil, errCorrupted
	}
	return d.Plaintext, nil
}

// checksum is a CRC-32C (Castagnoli) as the service writes it.
type checksum uint32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crcOf(data []byte) *checksum {
	sum := checksum(crc32.Checksum(data, castagnoli))
	return &sum
}

// matches reports whether an answer has a checksum, and data is what it was made of.
func (c *checksum) matches(data []byte) bool { return c != nil && *c == *crcOf(data) }

// MarshalJSON implements json.Marshaler.
func (c checksum) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `"%d"`, c), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (c *checksum) UnmarshalJSON(raw []byte) error {
	sum, err := strconv.ParseUint(strings.Trim(string(raw), `"`), 10, 32)
	*c = checksum(sum)
	return err
}

// errCorrupted says that a checksum is missing or wrong.
var errCorrupted = errors.New("the request or the answer was altered on its way: a checksum is missing or wrong")

// errSlow ends the context of a call after the deadline.
var errSlow = fmt.Errorf("no answer within %v", deadline)

// ended is the cause of an ended context, which is an answer of nobody.
type ended struct{ cause error }

func (e ended) Error() string { return e.cause.Error() }

// refusal is an error document of a service: its own words.
type refusal struct {
	status int    // of HTTP
	code   string // such as PERMISSION_DENIED; that of the token services is as RFC 6749 §5.2 has it
	reason string // of google.rpc.ErrorInfo; empty: there is none
	text   string
	login  bool // it answers a login
}

func (e *refusal) Error() string {
	return strings.Join(strings.Fields(fmt.Sprintf("status %d %.40s %.60s %.300s", e.status, e.code, e.reason, e.text)),
		" ")
}

// is reports whether a refusal has a code and the status that belongs to it.
func (e *refusal) is(code string) bool {
	statuses := map[string]int{
		"INVALID_ARGUMENT": http.StatusBadRequest, "FAILED_PRECONDITION": http.StatusBadRequest,
		"UNAUTHENTICATED": http.StatusUnauthorized, "PERMISSION_DENIED": http.StatusForbidden,
		"NOT_FOUND": http.StatusNotFound, "invalid_grant": http.StatusBadRequest,
		"invalid_target": http.StatusBadRequest, "unauthorized_client": http.StatusBadRequest,
	}
	return e.code == code && e.status == statuses[code]
}

// call makes one request of Cloud KMS and decodes its answer.
func (o operation) call(ctx context.Context, method, path string, request, into any) error {
	return causeOf(ctx, o.ask(ctx, method, path, request, into))
}

// causeOf returns the failure of requests in a context: its end, if it has ended.
func causeOf(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil || cause == nil:
		return err
	case errors.Is(cause, errSlow):
		return errSlow
	default:
		return ended{cause}
	}
}

// ask makes a request with a token. A token that is not accepted may have expired or been revoked; so that counts only
// of a new one.
func (o operation) ask(ctx context.Context, method, path string, request, into any) error {
	send := func(token string) error {
		var body []byte
		if request != nil {
			raw, err := json.Marshal(request)
			if err != nil {
				return fmt.Errorf("encode the request: %w", err)
			}
			defer clear(raw)
			body = raw
		}
		header := http.Header{
			"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"},
			// Cloud Audit Logs shows it as requestMetadata.requestAttributes.reason
			"X-Goog-Request-Reason": {o.id},
		}
		answered, err := o.services.send(ctx, kms, method, "/v1/"+path, header, body, into)
		if answered {
			keysource.TraceOf(ctx).Answered(o.id)
		}
		return err
	}
	current, fresh, err := o.token(ctx, "")
	if err != nil {
		return err
	}
	if err = send(current.token); fresh || !isUnauthenticated(err) {
		return err
	}
	if current, _, err = o.token(ctx, current.token); err != nil {
		return err
	}
	return send(current.token)
}

func isUnauthenticated(err error) bool {
	e, ok := errors.AsType[*refusal](err)
	return ok && !e.login && e.is("UNAUTHENTICATED")
}

func isPrecondition(err error) bool {
	e, ok := errors.AsType[*refusal](err)
	return ok && !e.login && e.is("FAILED_PRECONDITION")
}

// send makes one request. Only an error document of the service is a *refusal: a bare status may come from any
// intermediary. answered reports whether the service has answered in its form.
func (s *Services) send(
	ctx context.Context, service, method, path string, header http.Header, body []byte, into any,
) (answered bool, err error) {
	base := strings.ReplaceAll(s.endpoint, serviceMark, service)
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("make the request: %w", err)
	}
	req.Header = header
	res, err := s.client.Do(req)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok { // whose text has the address
			err = outer.Err
		}
		return false, fmt.Errorf("%s: %.300s", service, err.Error())
	}
	defer res.Body.Close() // its content has been read
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	defer clear(raw)
	if err != nil {
		return false, fmt.Errorf("read the answer of %s: %w", service, err)
	}
	if len(raw) > maxAnswer || len(raw) == 0 || raw[0] != '{' || !answer.Unambiguous(raw) {
		return false, fmt.Errorf("status %d without a document of %s", res.StatusCode, service)
	}
	if res.StatusCode != http.StatusOK {
		return readRefusal(res.StatusCode, service, raw)
	}
	if json.Unmarshal(raw, into) != nil {
		return true, fmt.Errorf("the answer of %s is not the one to the question", service)
	}
	return true, nil
}

// readRefusal reads an error document: that of Google's APIs, or that of OAuth 2.0.
func readRefusal(status int, service string, raw []byte) (answered bool, err error) {
	var document struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	refused := &refusal{status: status}
	var api struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Status  string `json:"status"`
		Details []struct {
			Type   string `json:"@type"`
			Reason string `json:"reason"`
		} `json:"details"`
	}
	switch {
	case json.Unmarshal(raw, &document) != nil:
	case json.Unmarshal(document.Error, &refused.code) == nil:
		refused.text = document.Description
	case json.Unmarshal(document.Error, &api) == nil && api.Code == status:
		refused.code, refused.text = api.Status, api.Message
		for _, d := range api.Details {
			if d.Type == "type.googleapis.com/google.rpc.ErrorInfo" {
				refused.reason = d.Reason
			}
		}
	}
	if strings.Contains(refused.text, "eyJ") { // the beginning of a token: the service repeats what it was sent
		refused.text = ""
	}
	if refused.code == "" {
		return false, fmt.Errorf("status %d without an error document of %s", status, service)
	}
	return true, refused
}
