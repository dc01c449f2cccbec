package stores

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/hashivault"
)

// transit is the transit engine of HashiCorp Vault and OpenBao.
var transit = kind{
	scheme:    hashivault.Scheme,
	about:     "hashivault://HOST/MOUNT, for the transit engine of HashiCorp Vault and OpenBao",
	address:   transitAddress,
	parse:     hashivault.ParseKey,
	check:     checkTransit,
	methods:   transitMethods,
	may:       []string{"caFile"},
	federates: []string{"jwt"},
	host: func(s Store) string {
		_, rest, _ := strings.Cut(s.Address, "://")
		host, _, _ := strings.Cut(rest, "/")
		return host
	},
	remedy:   transitRemedy,
	revoke:   transitRevocation,
	listener: func(s Store) string { return hashivault.Endpoint(s.Address) },
	connect: func(s Store, assert Assert) opener {
		cfg := hashivault.Config{Roots: s.roots}
		if s.Login.Method == "approle" {
			cfg.Refusals = &s.known.refusals
		}
		servers := hashivault.NewServers(cfg)
		return func(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
			return servers.Open(key, transitLogin(s.Login, as, assert))
		}
	},
}

// transitAddress parses an address by that of any key.
func transitAddress(address string) (string, error) {
	key, err := hashivault.ParseKey(address, "any", "")
	return key.Vault, err
}

var transitMethods = []Method{
	{Name: "jwt", May: []string{"mount", "role", "audience"}},
	{Name: "approle", Needs: []string{"roleId", "secretFile"}, May: []string{"mount"}},
	{Name: "token", Needs: []string{"secretFile"}},
}

func checkTransit(s Store) error {
	l := s.Login
	if s.Endpoint != "" || s.LoginEndpoint != "" {
		return errors.New("the address is that of the server: leave endpoint and loginEndpoint out")
	}
	for _, path := range []string{l.Mount, l.Role} {
		if path != "" && !loginPath.MatchString(path) {
			return fmt.Errorf("the mount and the role of a login have letters, digits, points, hyphens and "+
				"underscores; got %.100q", path)
		}
	}
	if l.Method == "jwt" {
		if err := l.requirePrincipal(); err != nil {
			return err
		}
	}
	return l.usesOf(transitMethods)
}

func transitLogin(l Login, as visage.PrincipalID, assert Assert) hashivault.Login {
	mount := cmp.Or(l.Mount, l.Method)
	switch l.Method {
	case "approle":
		return hashivault.AppRole(mount, l.RoleID, l.SecretFile)
	case "token":
		return hashivault.Token(l.SecretFile)
	}
	return hashivault.JWT(mount, l.roleOf(as), func(ctx context.Context) (string, time.Time, error) {
		return assertion(ctx, assert, as, l.Audience)
	})
}

// assertion returns an assertion of an identity. That there is no such identity is a refusal.
func assertion(
	ctx context.Context, assert Assert, as visage.PrincipalID, audience string,
) (string, time.Time, error) {
	token, expires, err := assert(ctx, as, audience)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
		err = fmt.Errorf("%w: %w", keysource.ErrDenied, err)
	}
	return token, expires, err
}
