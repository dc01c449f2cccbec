// Package operator is the client of a running server for the commands of its operator. Dial connects over HTTPS with
// the secret in operator.json; Show and Do make commands of calls; Complete completes names from the server.
package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/server"
)

// Client sends requests to one running server.
type Client struct {
	Operator server.Operator
	Origin   visage.Origin // Operator.Endpoint
	HTTP     *http.Client

	dir    string // where operator.json is
	bearer string // a token for the management plane; empty until it is needed
	notes  io.Writer
}

// Dial reads operator.json in dir. It sends no request.
func Dial(dir string) (*Client, error) {
	path := filepath.Join(dir, server.OperatorFile)
	operator, err := server.ReadOperator(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, command.Hinted(err,
			"start the server with \"visage serve --dir %s\", or name the directory of a running server with "+
				"--dir", dir)
	}
	if err != nil {
		return nil, err
	}
	origin, err := visage.ParseOrigin(operator.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("%s has no valid address of a server: %w", path, err)
	}
	h, err := HTTPClient(operator)
	if err != nil {
		return nil, err
	}
	return &Client{Operator: operator, Origin: origin, HTTP: h, dir: dir, notes: io.Discard}, nil
}

// Path is the path of a Face resource for Manage.
func Path(name string) string { return "/" + url.PathEscape(name) }

// Note shows a message while the command runs.
func (c *Client) Note(format string, args ...any) {
	fmt.Fprintf(c.notes, "visage: "+format+"\n", args...)
}

// Local leaves a copy of a request in the data directory, for requests that credentials alone do not suffice for, and
// sets name to that of the copy, which remove takes away. Elsewhere than on the machine of the server, or as another
// user, there is no copy; the server then says what it does not do.
func (c *Client) Local(request any, name *string) (remove func()) {
	left, removeFile, err := server.LeaveRequest(c.dir, request)
	if err != nil {
		return func() {}
	}
	*name = left
	return func() {
		if err := removeFile(); err != nil {
			c.Note("%v", err)
		}
	}
}

// apiVersion is the newest version of the contract.
const apiVersion = "2025-09-01"

// maxAnswer bounds the length of an answer.
const maxAnswer = 16 << 20

// Manage makes one request of the management plane about Face resources. path is relative to the accounts of the
// operator's resource group: Path of a resource, or "" for all. body and answer may be nil.
func (c *Client) Manage(ctx context.Context, method, path string, body, answer any) error {
	return c.ARM(ctx, method, fmt.Sprintf("/resourceGroups/%s/providers/Microsoft.CognitiveServices/accounts%s",
		c.Operator.ResourceGroup, path), body, answer)
}

// Provider makes one request about objects of the Face provider other than accounts. path is relative to the provider
// in the operator's subscription.
func (c *Client) Provider(ctx context.Context, method, path string, body, answer any) error {
	return c.ARM(ctx, method, "/providers/Microsoft.CognitiveServices"+path, body, answer)
}

// ARM makes one request of the management plane. path is relative to the operator's subscription.
func (c *Client) ARM(ctx context.Context, method, path string, body, answer any) error {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	address := fmt.Sprintf("%s/subscriptions/%s%s%sapi-version=%s", c.Operator.Endpoint, c.Operator.SubscriptionID,
		path, separator, apiVersion)
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	token, err := c.token(ctx)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, b, err := c.Send(req)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return Problem(res, b)
	}
	if answer == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("read answer of %s %s: %w", method, path, err)
	}
	return nil
}

// Send makes a request and reads the answer.
func (c *Client) Send(req *http.Request) (*http.Response, []byte, error) {
	res, err := c.HTTP.Do(req)
	if err != nil {
		return nil, nil, &command.Failure{
			Err:  fmt.Errorf("reach the server at %s: %w", c.Operator.Endpoint, errors.Unwrap(err)),
			Code: command.ExitUnreachable, Hint: "is it running? \"visage serve\" starts it",
		}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("read answer: %w", err)
	}
	return res, b, nil
}

// token returns a token of the operator for the management plane. Its lifetime exceeds that of every command.
func (c *Client) token(ctx context.Context) (string, error) {
	if c.bearer == "" {
		token, err := c.TokenFor(ctx, "https://management.azure.com/.default")
		if err != nil {
			return "", err
		}
		c.bearer = token
	}
	return c.bearer, nil
}

// TokenFor gets a new token of the operator.
func (c *Client) TokenFor(ctx context.Context, scope string) (string, error) {
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {scope},
		"client_id": {c.Operator.ClientID}, "client_secret": {c.Operator.ClientSecret},
	}
	address := c.Operator.Endpoint + "/" + c.Operator.TenantID + "/oauth2/v2.0/token"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, b, err := c.Send(req)
	if err != nil {
		return "", err
	}
	var said struct {
		Token       string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(b, &said); err != nil || said.Token == "" {
		return "", &Refused{Status: res.StatusCode, Code: said.Error, Message: said.Description}
	}
	return said.Token, nil
}
