package main

import (
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"
)

// authenticate verifies the signature of a request (AWS Signature Version 4).
func (c *cloud) authenticate(r *http.Request, body []byte) (*principal, error) {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	fields := map[string]string{}
	for _, part := range strings.Split(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if !ok || len(scope) != 5 {
		return nil, &refusal{"MissingAuthenticationTokenException", "Missing Authentication Token"}
	}
	p, known := c.principal[scope[0]]
	if !known || p.token != r.Header.Get("X-Amz-Security-Token") {
		return nil, &refusal{"UnrecognizedClientException", "The security token included in the request is invalid."}
	}
	if p.token != "" && time.Now().After(p.ends) {
		return nil, &refusal{"ExpiredTokenException", "The security token included in the request is expired"}
	}
	if scope[2] != region || scope[3] != "kms" {
		return nil, &refusal{"InvalidSignatureException", "Credential should be scoped to a valid region."}
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return nil, &refusal{"InvalidSignatureException", "Signature expired: " + r.Header.Get("X-Amz-Date")}
	}
	var headers strings.Builder
	signed := strings.Split(fields["SignedHeaders"], ";")
	for _, name := range signed {
		value := strings.TrimSpace(strings.Join(r.Header.Values(name), ","))
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(len(body))
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, value)
	}
	digest := sha256.Sum256(body)
	canonical := strings.Join([]string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, headers.String(),
		fields["SignedHeaders"], hex.EncodeToString(digest[:])}, "\n")
	hashed := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), strings.Join(scope[1:], "/"),
		hex.EncodeToString(hashed[:])}, "\n")
	key := []byte("AWS4" + p.secret)
	for _, part := range append(scope[1:], text) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if !slices.Contains(signed, "host") || !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(fields["Signature"])) {
		return nil, &refusal{"InvalidSignatureException", "The request signature we calculated does not match the " +
			"signature you provided. The Canonical String for this request should have been '" + canonical + "'"}
	}
	return p, nil
}

// verify reports whether a token may assume a role, in the words of STS.
func (c *cloud) verify(role, token string) error {
	invalid := func(message string) error { return &refusal{"InvalidIdentityToken", message} }
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return invalid("The ID Token provided is not a valid JWT.")
	}
	var header struct{ Alg, Kid string }
	var claims struct {
		Iss, Sub, Aud string
		Exp           int64
	}
	if !decode(parts[0], &header) || !decode(parts[1], &claims) || header.Alg != "RS256" {
		return invalid("The ID Token provided is not a valid JWT.")
	}
	known := false
	for _, t := range c.roles {
		known = known || t.Issuer == claims.Iss
	}
	t, exists := c.roles[role]
	switch {
	case !known:
		return invalid("No OpenIDConnect provider found in your account for " + claims.Iss)
	case !exists || t.Issuer != claims.Iss:
		return &refusal{"AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}
	case t.Audience != claims.Aud:
		return invalid("Incorrect token audience")
	case time.Now().Unix() > claims.Exp:
		return &refusal{"ExpiredTokenException", "Token expired: current date/time must be before the expiration " +
			"date/time"}
	}
	key, err := t.key(header.Kid)
	if err != nil {
		return invalid("Couldn't retrieve verification key from your identity provider,  please reference " +
			"AssumeRoleWithWebIdentity documentation for requirements")
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) != nil {
		return invalid("Invalid signature in token.")
	}
	if t.Subject != claims.Sub {
		return &refusal{"AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}
	}
	return nil
}

// key fetches a key of the issuer.
func (t trust) key(id string) (*rsa.PublicKey, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(t.CA))
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	}}
	res, err := client.Get(t.JWKS)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var set struct{ Keys []struct{ Kid, N, E string } }
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil {
		return nil, err
	}
	for _, k := range set.Keys {
		n, nErr := base64.RawURLEncoding.DecodeString(k.N)
		e, eErr := base64.RawURLEncoding.DecodeString(k.E)
		if k.Kid == id && nErr == nil && eErr == nil {
			return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
		}
	}
	return nil, fmt.Errorf("no key %q", id)
}

func decode(segment string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	return err == nil && json.Unmarshal(raw, into) == nil
}
