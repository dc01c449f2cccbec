package prove_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// client sends plain requests to one start of the service; the official clients are tested elsewhere.
type client struct {
	endpoint string
	key      string
	http     *http.Client
}

func newClient(endpoint, key string, ca []byte) (*client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("the CA file has no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 16}
	return &client{endpoint: endpoint, key: key, http: &http.Client{Transport: transport, Timeout: 30 * time.Second}},
		nil
}

// call sends body (bytes are an image, nil is nothing, other values become JSON) and decodes the answer into out. ok is
// false without a complete answer: the request may have taken effect or not. When the service refuses because of its
// load, which it does before it changes anything, call waits and tries again.
func (c *client) call(ctx context.Context, method, path string, body, out any) (status int, ok bool) {
	var payload []byte
	contentType := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		payload, contentType = b, "application/octet-stream"
	default:
		var err error
		if payload, err = json.Marshal(b); err != nil {
			panic(fmt.Sprintf("encode %T: %v", b, err)) // the test made it
		}
	}
	for {
		req, err := http.NewRequestWithContext(ctx, method, c.endpoint+"/face/v1.2"+path, bytes.NewReader(payload))
		if err != nil {
			panic(fmt.Sprintf("make a request of %s %s: %v", method, path, err))
		}
		req.Header.Set("Ocp-Apim-Subscription-Key", c.key)
		req.Header.Set("Content-Type", contentType)
		resp, err := c.http.Do(req)
		if err != nil {
			return 0, false
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return 0, false
		}
		if resp.StatusCode == http.StatusTooManyRequests {
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return 0, false
			}
		}
		if out != nil && resp.StatusCode == http.StatusOK {
			if err := json.Unmarshal(answer, out); err != nil {
				return 0, false
			}
		}
		return resp.StatusCode, true
	}
}
