package stores

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/gcpkms"
)

// google is Google Cloud KMS, one key ring of it.
var google = kind{
	scheme:    gcpkms.Scheme,
	about:     "gcpkms://projects/PROJECT/locations/LOCATION/keyRings/KEYRING, for Google Cloud KMS",
	address:   gcpkms.ParseAddress,
	parse:     gcpkms.ParseKey,
	check:     checkGoogle,
	methods:   googleMethods,
	may:       []string{"endpoint", "caFile"},
	federates: []string{"workload-identity"},
	// The assertions go to the security token service, which belongs to Google and not to the project.
	host:     func(s Store) string { return cmp.Or(s.Endpoint, "Google") },
	audience: func(s Store) string { return gcpkms.DefaultAudience(s.Login.Provider) },
	listener: func(s Store) string { return gcpkms.Listener(s.Endpoint) },
	remedy:   googleRemedy,
	revoke:   googleRevocation,
	connect:  connectGoogle,
}

var googleMethods = []Method{
	{Name: "workload-identity", Needs: []string{"provider"}, May: []string{"audience", "serviceAccount"}},
	{Name: "service-account", Needs: []string{"secretFile"}},
}

func checkGoogle(s Store) error {
	if s.LoginEndpoint != "" {
		return errors.New("endpoint is that of logins too: leave loginEndpoint out, and write {service} into it if " +
			"each service has its own")
	}
	if _, err := gcpkms.NewServices(gcpkms.Config{Endpoint: s.Endpoint}); err != nil {
		return err
	}
	if err := s.Login.usesOf(googleMethods); err != nil || s.Login.Method != "workload-identity" {
		return err
	}
	if s.Login.ServiceAccount != "" {
		if err := gcpkms.CheckServiceAccount(s.Login.ServiceAccount); err != nil {
			return err
		}
	}
	return gcpkms.CheckProvider(s.Login.Provider)
}

func connectGoogle(s Store, assert Assert) opener {
	services, err := gcpkms.NewServices(gcpkms.Config{Endpoint: s.Endpoint, Roots: s.roots})
	return func(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
		if err != nil {
			return nil, err
		}
		l := s.Login
		if l.Method == "service-account" {
			return services.Open(key, gcpkms.ServiceAccountKey(l.SecretFile))
		}
		return services.Open(key, gcpkms.WorkloadIdentity(l.Provider, l.ServiceAccount,
			func(ctx context.Context) (string, time.Time, error) { return assertion(ctx, assert, as, l.Audience) }))
	}
}
