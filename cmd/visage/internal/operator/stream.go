package operator

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/visage-face/visage/cmd/visage/internal/command"
)

// Unreachable reports whether an error says that no server answers.
func Unreachable(err error) bool {
	f, ok := errors.AsType[*command.Failure](err)
	return ok && f.Code == command.ExitUnreachable
}

// Stream requests a stream from the running server, and passes it to read.
func (c *Client) Stream(ctx context.Context, operation string, read func(io.Reader) error) error {
	address := fmt.Sprintf("%s/subscriptions/%s/providers/Visage.Operations/%s?api-version=%s", c.Operator.Endpoint,
		c.Operator.SubscriptionID, operation, apiVersion)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, http.NoBody)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	token, err := c.token(ctx)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	patient := http.Client{Transport: inOneStream(c.HTTP.Transport)} // a stream has no time limit
	res, err := patient.Do(req)
	if err != nil {
		return fmt.Errorf("reach the server: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		return errors.Join(Problem(res, b), err)
	}
	return read(res.Body)
}

// inOneStream returns a transport like t that uses HTTP/1.1: the frames and windows of HTTP/2 suit many small answers,
// and make a large one a tenth slower. It reads ahead, since TLS reads one record of 16 KiB at a time.
func inOneStream(t http.RoundTripper) http.RoundTripper {
	alone := func(t *http.Transport) *http.Transport {
		t = t.Clone()
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &ahead{c, bufio.NewReaderSize(c, readAhead)}, nil
		}
		t.ForceAttemptHTTP2, t.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
		if t.TLSClientConfig != nil {
			t.TLSClientConfig.NextProtos = nil
		}
		return t
	}
	switch t := t.(type) {
	case *http.Transport:
		return alone(t)
	case plain:
		return plain{alone(t.Transport)}
	}
	return t
}

// readAhead is how much of a stream is read from its connection at once.
const readAhead = 256 << 10

// ahead is a connection with a buffer that is read ahead.
type ahead struct {
	net.Conn
	read *bufio.Reader
}

// Read implements net.Conn.
func (a *ahead) Read(b []byte) (int, error) { return a.read.Read(b) }
