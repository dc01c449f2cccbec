package azure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// classify gives the error of a call its class. Only an error document of a vault counts as its answer (key vault
// contract §A8): a bare status may come from any intermediary.
func (s *Source) classify(verb string, err error) error {
	if e, ok := errors.AsType[errToken](err); ok {
		if errors.Is(e.err, keysource.ErrDenied) {
			return s.failure(verb, keysource.ErrDenied, keysource.NoIdentity, "its principal can no longer get a token")
		}
		return s.failure(verb, keysource.ErrUnknown, "", "no token could be obtained")
	}
	if e, ok := errors.AsType[errOtherKey](err); ok {
		return s.failure(verb, keysource.ErrWrong, "", e.Error())
	}
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || answer.RawResponse == nil {
		return s.failure(verb, keysource.ErrUnknown, "", fmt.Sprintf("%.300s", err))
	}
	code, inner, ok := readError(answer.RawResponse)
	if !ok {
		return s.failure(verb, keysource.ErrUnknown, "",
			fmt.Sprintf("status %d without a vault's error document", answer.StatusCode))
	}
	said := strings.TrimSpace(fmt.Sprintf("status %d %.60s %.60s", answer.StatusCode, code, inner))
	switch {
	case answer.StatusCode == http.StatusForbidden && code == "Forbidden":
		return s.forbidden(verb, inner, said)
	case answer.StatusCode == http.StatusNotFound && code == "KeyNotFound":
		return s.failure(verb, keysource.ErrDenied, keysource.Missing, said)
	case answer.StatusCode == http.StatusUnauthorized && answer.RawResponse.Header.Get("WWW-Authenticate") != "" &&
		answer.RawResponse.Request != nil && answer.RawResponse.Request.Header.Get("Authorization") != "":
		// The client has answered the challenge with a new token of the credential.
		return s.failure(verb, keysource.ErrDenied, keysource.NoIdentity, said)
	}
	return s.failure(verb, keysource.ErrUnknown, "", said)
}

func (s *Source) forbidden(verb, inner, said string) error {
	switch inner {
	case "KeyDisabled":
		return s.failure(verb, keysource.ErrDenied, keysource.Disabled, said)
	case "KeyNotYetValid":
		return s.failure(verb, keysource.ErrDenied, keysource.NotYetValid, said)
	case "KeyExpired":
		if verb == "unwrap" { // an expired key still unwraps, so a refusal here is a revocation
			return s.failure(verb, keysource.ErrDenied, keysource.Expired, said)
		}
		return s.failure(verb, keysource.ErrExpired, keysource.Expired, said)
	case "ForbiddenByFirewall", "ForbiddenByConnection":
		return s.failure(verb, keysource.ErrDenied, keysource.Firewall, said)
	}
	return s.failure(verb, keysource.ErrDenied, keysource.Permission, said)
}

func (s *Source) failure(verb string, class error, reason keysource.Reason, what string) error {
	return &keysource.Error{Class: class, Reason: reason, Text: fmt.Sprintf("%s with key %s: %s", verb, s.key, what)}
}

// readError reads the codes of a vault's error; the official client reads the outer one only. An answer that repeats a
// field is ambiguous and counts as unreadable.
func readError(res *http.Response) (code, inner string, ok bool) {
	raw, err := io.ReadAll(res.Body) // the client has read the body and restored it
	if err != nil || !answer.Unambiguous(raw) {
		return "", "", false
	}
	var body struct {
		Error struct {
			Code  string `json:"code"`
			Inner struct {
				Code string `json:"code"`
			} `json:"innererror"` // in any spelling: encoding/json ignores case
		} `json:"error"`
	}
	if json.Unmarshal(raw, &body) != nil {
		return "", "", false
	}
	return body.Error.Code, body.Error.Inner.Code, body.Error.Code != ""
}
