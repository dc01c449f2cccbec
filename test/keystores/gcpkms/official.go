package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"os"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// job is what Google's client is to do, in JSON on standard input.
type job struct {
	Address string          `json:"address"` // host and port
	CA      string          `json:"ca"`      // PEM
	Token   string          `json:"token"`
	Method  string          `json:"method"` // encrypt, decrypt or asymmetricDecrypt
	Request json.RawMessage `json:"request"`
}

// official has Google's own client make a request, and prints the answer: so tests can compare what this program and
// the service's sources make of the definition with what its authors do.
func official(ctx context.Context) error {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(j.CA))
	client, err := kms.NewKeyManagementRESTClient(ctx, option.WithEndpoint("https://"+j.Address),
		option.WithHTTPClient(&http.Client{Transport: withToken{j.Token, &http.Transport{
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}}}))
	if err != nil {
		return err
	}
	defer client.Close() // nothing is left to be done
	var answer proto.Message
	switch j.Method {
	case "encrypt":
		request := &kmspb.EncryptRequest{}
		if err = protojson.Unmarshal(j.Request, request); err == nil {
			answer, err = client.Encrypt(ctx, request)
		}
	case "decrypt":
		request := &kmspb.DecryptRequest{}
		if err = protojson.Unmarshal(j.Request, request); err == nil {
			answer, err = client.Decrypt(ctx, request)
		}
	case "asymmetricDecrypt":
		request := &kmspb.AsymmetricDecryptRequest{}
		if err = protojson.Unmarshal(j.Request, request); err == nil {
			answer, err = client.AsymmetricDecrypt(ctx, request)
		}
	default:
		err = errors.New("no such method")
	}
	if err != nil {
		return err
	}
	raw, err := protojson.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(raw)
	return err
}

// withToken adds a token to each request.
type withToken struct {
	token string
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+w.token)
	return w.next.RoundTrip(r)
}
