package stores

import (
	"cmp"
	"context"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/awskms"
)

// aws is AWS KMS, in one region of one account.
var aws = kind{
	scheme:    awskms.Scheme,
	about:     "awskms://REGION/ACCOUNT, for AWS KMS",
	address:   awskms.ParseAddress,
	parse:     awskms.ParseKey,
	check:     checkAWS,
	methods:   awsMethods,
	may:       []string{"endpoint", "loginEndpoint", "caFile"},
	federates: []string{"web-identity"},
	// The tokens go to STS, which belongs to AWS and not to the account.
	host:     func(s Store) string { return cmp.Or(s.LoginEndpoint, "AWS") },
	listener: func(s Store) string { return awskms.Listener(awsConfig(s)) },
	remedy:   awsRemedy,
	revoke:   awsRevocation,
	connect:  connectAWS,
}

var awsMethods = []Method{
	{Name: "web-identity", May: []string{"role", "audience"}},
	{Name: "static", Needs: []string{"accessKeyId", "secretFile"}},
}

func checkAWS(s Store) error {
	if _, err := awskms.NewServers(awsConfig(s)); err != nil {
		return err
	}
	if s.Login.Method == "web-identity" {
		if _, err := awsRole(s, "00000000-0000-0000-0000-000000000000"); err != nil {
			return err
		}
		if err := s.Login.requirePrincipal(); err != nil {
			return err
		}
	}
	return s.Login.usesOf(awsMethods)
}

func awsConfig(s Store) awskms.Config {
	return awskms.Config{Address: s.Address, Endpoint: s.Endpoint, LoginEndpoint: s.LoginEndpoint, Roots: s.roots}
}

func awsRole(s Store, as visage.PrincipalID) (string, error) {
	return awskms.RoleARN(s.Address, s.Login.roleOf(as))
}

func connectAWS(s Store, assert Assert) opener {
	servers, err := awskms.NewServers(awsConfig(s))
	return func(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
		if err != nil {
			return nil, err
		}
		if s.Login.Method == "static" {
			return servers.Open(key, awskms.Static(s.Login.AccessKeyID, s.Login.SecretFile))
		}
		role, err := awsRole(s, as)
		if err != nil {
			return nil, err
		}
		return servers.Open(key, awskms.WebIdentity(role, string(as),
			func(ctx context.Context) (string, time.Time, error) {
				return assertion(ctx, assert, as, s.Login.Audience)
			}))
	}
}
