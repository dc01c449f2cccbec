package hashivault

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/visage-face/visage/internal/secretfile"
)

// Login is how a source gets its tokens. It returns the path of a login endpoint below /v1/ and the fields that it is
// sent, or, with an empty path, a token itself. Every call reads its secrets again, so that they can be replaced. An
// error that wraps keysource.ErrDenied means that the principal certainly no longer exists. It may be called from many
// goroutines.
type Login func(ctx context.Context) (path string, fields map[string]string, token string, err error)

// JWT logs in with tokens of an OpenID issuer, such as this service for the identities of its resources: no secret is
// stored anywhere. mount is that of the method, usually "jwt"; get returns a token for the audience that the role
// expects.
func JWT(mount, role string, get func(ctx context.Context) (token string, expires time.Time, err error)) Login {
	return func(ctx context.Context) (string, map[string]string, string, error) {
		token, _, err := get(ctx)
		if err != nil {
			return "", nil, "", fmt.Errorf("get a token to log in with: %w", err)
		}
		return "auth/" + mount + "/login", map[string]string{"role": role, "jwt": token}, "", nil
	}
}

// AppRole logs in with a role id and the secret id in the first line of a file.
func AppRole(mount, roleID, secretFile string) Login {
	return func(context.Context) (string, map[string]string, string, error) {
		secret, err := firstLine(secretFile)
		if err != nil {
			return "", nil, "", err
		}
		return "auth/" + mount + "/login", map[string]string{"role_id": roleID, "secret_id": secret}, "", nil
	}
}

// Token uses the token in the first line of a file, which something else keeps valid.
func Token(file string) Login {
	return func(context.Context) (string, map[string]string, string, error) {
		token, err := firstLine(file)
		return "", nil, token, err
	}
}

// firstLine returns the secret in the first line of a file.
func firstLine(file string) (string, error) {
	line, err := secretfile.FirstLine(file)
	if err != nil {
		return "", fmt.Errorf("read the secret of a key store: %w", err)
	}
	return strings.TrimSpace(line), nil
}
