package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// setting is one setting: the flag --name, the environment variable VISAGE_NAME or a key of the configuration file, in
// this order. The table below is the only list of them.
type setting struct {
	name    string
	usage   string
	list    bool // may be given several times; in the environment with commas between
	boolean bool
	allowed string // part of every error about the setting
	set     func(c *Settings, value string) error
}

// variable is the environment variable of a setting.
func (s setting) variable() string {
	return env + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

var table = []setting{
	{
		name:    "dir",
		usage:   "`FOLDER` that holds everything the server keeps (default ~/.visage)",
		allowed: "a path",
		set:     text(func(c *Settings) *string { return &c.Server.Dir }),
	},
	{
		name: "store",
		usage: "`URL` of the PostgreSQL database that holds the sealed store, without a password (default: the " +
			"folder data in dir)",
		allowed: "postgres://role@host/database",
		set:     database(func(c *Settings) *string { return &c.Server.Engine }),
	},
	{
		name:    "store-password-file",
		usage:   "`FILE` whose first line is the password of store's role (default: PGPASSWORD or PGPASSFILE)",
		allowed: "a path",
		set:     text(func(c *Settings) *string { return &c.Server.StorePasswordFile }),
	},
	{
		name: "epoch-keys",
		usage: "`URL` of where epoch keys lie, apart from the data: file:///FOLDER, a folder in a KV engine as " +
			"hashivault://HOST/MOUNT/FOLDER, or postgres://role@host/database, without a secret (default: the folder " +
			"keys in dir)",
		allowed: "file:///FOLDER, hashivault://HOST/MOUNT/FOLDER or postgres://role@host/database",
		set:     text(func(c *Settings) *string { return &c.Server.EpochKeys }),
	},
	{
		name: "epoch-keys-secret-file",
		usage: "`FILE` whose first line is the token, secret id, JWT or password of the login to epoch-keys (default " +
			"for a database: PGPASSWORD or PGPASSFILE)",
		allowed: "a path",
		set:     text(func(c *Settings) *string { return &c.Server.EpochKeysSecretFile }),
	},
	{
		name:    "listen",
		usage:   "`ADDRESS` to listen on (default 127.0.0.1:8443)",
		allowed: "host:port",
		set:     text(func(c *Settings) *string { return &c.Server.Listen }),
	},
	{
		name: "public-url",
		usage: "`URL` that clients use where a TLS proxy or a load balancer stands before the listener; " +
			"replaces domain and public-port (default: made of the two)",
		allowed: "a scheme, a host name and maybe a port",
		set:     text(func(c *Settings) *string { return &c.Server.PublicURL }),
	},
	{
		name: "trusted-proxy", list: true,
		usage: "`ADDRESS` or CIDR block of a proxy whose X-Forwarded-For and Forwarded headers are " +
			"believed",
		allowed: "addresses and CIDR blocks",
		set:     texts(func(c *Settings) *[]string { return &c.Server.TrustedProxies }),
	},
	{
		name: "domain",
		usage: "`DOMAIN` below which each resource has a host of its own, NAME.DOMAIN (default " +
			"localhost)",
		allowed: "a host name in lower case",
		set:     text(func(c *Settings) *string { return &c.Server.Domain }),
	},
	{
		name: "public-port",
		usage: "`PORT` that clients use where something forwards to the listener (default: the " +
			"listener's)",
		allowed: "a number from 1 to 65535",
		set:     number(1, 65535, func(c *Settings) *int { return &c.Server.PublicPort }),
	},
	{
		name: "names", list: true,
		usage:   "further host `NAMES` and IP addresses for the server's certificate",
		allowed: "host names and IP addresses",
		set:     texts(func(c *Settings) *[]string { return &c.Server.Names }),
	},
	{
		name:    "cert-file",
		usage:   "certificate chain `FILE` to use instead of the server's own certificate authority",
		allowed: "the path of a PEM file",
		set:     text(func(c *Settings) *string { return &c.Server.CertFile }),
	},
	{
		name:    "key-file",
		usage:   "private key `FILE` of cert-file",
		allowed: "the path of a PEM file",
		set:     text(func(c *Settings) *string { return &c.Server.KeyFile }),
	},
	{
		name: "plain-http", boolean: true,
		usage:   "serve without TLS, on a loopback address only",
		allowed: "true or false",
		set:     truth(func(c *Settings) *bool { return &c.Server.PlainHTTP }),
	},
	{
		name: "pack",
		usage: "model `PACK`, by name or folder, for recognition models that the setting model does not " +
			"name (default: the pack that the store uses; for a new store, mobileface)",
		allowed: "the name or folder of a model pack",
		set:     text(func(c *Settings) *string { return &c.Server.Pack }),
	},
	{
		name: "model", list: true,
		usage:   "model pack of one recognition model, as `MODEL=PACK`, such as recognition_04=mobileface",
		allowed: "MODEL=PACK, the pack by its name or folder",
		set:     setModel,
	},
	{
		name: "closed-pack", list: true,
		usage:   "`NAME` of a model pack to leave closed because nothing that it made is needed any more",
		allowed: "names of model packs",
		set:     texts(func(c *Settings) *[]string { return &c.Server.ClosedPacks }),
	},
	{
		name:    "library",
		usage:   "ONNX Runtime shared library `FILE` (default: found below models/ or, in a package, in lib/visage)",
		allowed: "a path",
		set:     text(func(c *Settings) *string { return &c.Server.Library }),
	},
	{
		name:    "parallel",
		usage:   "`NUMBER` of photos to process at once (default: the number of processors)",
		allowed: "a number from 1 to 256",
		set:     number(1, 256, func(c *Settings) *int { return &c.Server.Parallel }),
	},
	{
		name:    "gallery-memory",
		usage:   "`SIZE` of the memory for galleries that are being searched (default 1GiB)",
		allowed: "a size such as 512MiB or 4GiB, at least 1MiB",
		set:     size(func(c *Settings) *int64 { return &c.Server.GalleryBytes }),
	},
	{
		name: "disk-reserve",
		usage: "`SIZE` of the free disk space that is kept for deletions and keys: with less, new data " +
			"is refused (default: a sixth of the volume, at most 256MiB)",
		allowed: "a size such as 64MiB or 1GiB, at least 4MiB",
		set:     size(func(c *Settings) *int64 { return &c.Server.DiskReserve }),
	},
	{
		name:    "rate",
		usage:   "`NUMBER` of requests per second for each resource of tier S0 or E0 (default 10)",
		allowed: "a number from 1 to 100000",
		set:     number(1, 100_000, func(c *Settings) *int { return &c.Server.Rate }),
	},
	{
		name: "vault-rate",
		usage: "`NUMBER` of key vault requests per second for each identity; bursts may be ten times as " +
			"large (default 400)",
		allowed: "a number from 1 to 100000",
		set:     number(1, 100_000, func(c *Settings) *int { return &c.Server.VaultRate }),
	},
	{
		name: "management-rate",
		usage: "`NUMBER` of management requests per second for each identity; bursts may be ten times as " +
			"large (default 100)",
		allowed: "a number from 1 to 100000",
		set:     number(1, 100_000, func(c *Settings) *int { return &c.Server.ManagementRate }),
	},
	{
		name: "token-rate",
		usage: "`NUMBER` of token requests per second from one address; bursts may be ten times as large " +
			"(default 200)",
		allowed: "a number from 1 to 100000",
		set:     number(1, 100_000, func(c *Settings) *int { return &c.Server.TokenRate }),
	},
	{
		name:    "connections",
		usage:   "`NUMBER` of connections at a time; one address gets half of them (default 2048)",
		allowed: "a number from 16 to 1000000",
		set:     number(16, 1_000_000, func(c *Settings) *int { return &c.Server.Connections }),
	},
	{
		name: "anchors",
		usage: "`FOLDER` for rollback anchors, best on another volume: data older than its anchor is " +
			"refused (default: beside the epoch keys)",
		allowed: "an absolute path",
		set:     text(func(c *Settings) *string { return &c.Server.Anchors }),
	},
	{
		name: "accept-rollback", boolean: true,
		usage:   "open data that is older than its anchor, as after a restore; this is audited",
		allowed: "true or false",
		set:     truth(func(c *Settings) *bool { return &c.Server.AcceptRollback }),
	},
	{
		name: "shared", boolean: true,
		usage:   "run as one of several replicas, whose store is a database that all of them open",
		allowed: "true or false",
		set:     truth(func(c *Settings) *bool { return &c.Server.Shared }),
	},
	{
		name: "peer-listen",
		usage: "`ADDRESS`, host:port, at which this replica answers others for parts of large collections, by " +
			"mutual TLS with certificates of the instance; needs the setting shared (default: none)",
		allowed: "host:port",
		set:     text(func(c *Settings) *string { return &c.Server.PeerListen }),
	},
	{
		name:    "peer-address",
		usage:   "`ADDRESS`, host:port, at which other replicas reach peer-listen (default: that of peer-listen)",
		allowed: "host:port",
		set:     text(func(c *Settings) *string { return &c.Server.PeerAddress }),
	},
	{
		name: "partition-memory",
		usage: "`SIZE` of the gallery of the largest collection that a replica with peer-listen searches as a whole; " +
			"larger ones are cut into partitions of at most that size (default: half of gallery-memory)",
		allowed: "a size such as 512MiB or 4GiB, at least 1KiB and at most gallery-memory",
		set:     size(func(c *Settings) *int64 { return &c.Server.PartitionBytes }),
	},
	{
		name:    "partition-copies",
		usage:   "`NUMBER` of replicas that have each partition (default 2)",
		allowed: "a number from 1 to 16",
		set:     number(1, 16, func(c *Settings) *int { return &c.Server.PartitionCopies }),
	},
	{
		name: "allow-private-urls", boolean: true,
		usage:   "allow image URLs that lead to private and loopback addresses",
		allowed: "true or false",
		set:     truth(func(c *Settings) *bool { return &c.Server.AllowPrivateURLs }),
	},
	{
		name: "auto-approve", boolean: true,
		usage:   "approve every request for customer-managed keys at once, for an operator who is the only customer",
		allowed: "true or false",
		set:     truth(func(c *Settings) *bool { return &c.Server.AutoApprove }),
	},
	{
		name: "key-grace",
		usage: "`DURATION` for which data stays available while the vault of its customer-managed key " +
			"does not answer (default 1h)",
		allowed: "a duration from 1m to 24h",
		set:     duration(func(c *Settings) *time.Duration { return &c.Server.KeyGrace }),
	},
	{
		name:    "azure-tenant",
		usage:   "`TENANT` of the application that uses keys in Azure Key Vault",
		allowed: "an id or a domain",
		set:     text(func(c *Settings) *string { return &c.Server.AzureTenant }),
	},
	{
		name:    "azure-client",
		usage:   "client `ID` of the application of azure-tenant",
		allowed: "a client id",
		set:     text(func(c *Settings) *string { return &c.Server.AzureClient }),
	},
	{
		name:    "azure-secret-file",
		usage:   "`FILE` whose first line is the secret of azure-client",
		allowed: "the path of a file",
		set:     text(func(c *Settings) *string { return &c.Server.AzureSecretFile }),
	},
	{
		name: "azure-resources", list: true,
		usage: "management `PATH` of a subscription, resource group or resource that may use the application of " +
			"azure-client, or * for all (default: none beside those that have a key in Azure already)",
		allowed: "management paths, or * alone",
		set:     texts(func(c *Settings) *[]string { return &c.Server.AzureResources }),
	},
	{
		name: "key-stores",
		usage: "JSON `FILE` with the stores of customers' keys beside key vaults, such as HashiCorp Vault, " +
			"that resources may use (default: none)",
		allowed: "the path of a file",
		set:     text(func(c *Settings) *string { return &c.Server.KeyStoresFile }),
	},
	{
		name: "federation-issuer",
		usage: "`URL` of the issuer that the tokens for key stores state, where \"visage identity publish\" has put " +
			"its documents (default: an address of this server)",
		allowed: "an https URL without a slash at the end",
		set:     text(func(c *Settings) *string { return &c.Server.FederationIssuer }),
	},
	{
		name: "trust-issuer", list: true,
		usage:   "OpenID Connect issuer whose tokens applications may present instead of a secret, as `URL=AUDIENCE`",
		allowed: "URL=AUDIENCE",
		set:     texts(func(c *Settings) *[]string { return &c.Server.TrustedIssuers }),
	},
	{
		name: "console-issuer", list: true,
		usage:   "OpenID Connect issuer with which people sign in to the console, as `URL=CLIENT_ID`",
		allowed: "URL=CLIENT_ID, where URL is the https address of the issuer",
		set:     texts(func(c *Settings) *[]string { return &c.Server.ConsoleIssuers }),
	},
	{
		name: "console-issuer-secret-file", list: true,
		usage:   "file with the secret of the client of a console-issuer, as `URL=FILE` (default: a public client)",
		allowed: "URL=FILE, where URL is an issuer of console-issuer",
		set:     texts(func(c *Settings) *[]string { return &c.Server.ConsoleIssuerSecretFiles }),
	},
	{
		name: "issuer-ca-file",
		usage: "PEM `FILE` of certificate authorities to trust for trust-issuer and console-issuer, beside " +
			"the system's",
		allowed: "the path of a PEM file",
		set:     text(func(c *Settings) *string { return &c.Server.IssuerCAFile }),
	},
	{
		name:    "identity-endpoint",
		usage:   "loopback `ADDRESS` of a managed identity endpoint, over plain HTTP (default: none)",
		allowed: "host:port on a loopback address",
		set:     text(func(c *Settings) *string { return &c.Server.IdentityEndpoint }),
	},
	{
		name: "identity-endpoint-for", list: true,
		usage:   "`IDENTITY` whose tokens identity-endpoint issues",
		allowed: "names or client ids of applications, paths or ids of managed identities",
		set:     texts(func(c *Settings) *[]string { return &c.Server.IdentityEndpointFor }),
	},
	{
		name: "identity-endpoint-imds", boolean: true,
		usage:   "also serve the instance metadata protocol, which needs no secret, on identity-endpoint",
		allowed: "true or false",
		set:     truth(func(c *Settings) *bool { return &c.Server.IdentityEndpointIMDS }),
	},
	{
		name: "root-key", list: true,
		usage: "`SOURCE` of the root key: file:PATH, env:NAME, passphrase-env:NAME, passphrase-file:PATH, " +
			"tpm:DEVICE or a key in a key store; of several, any one opens the data (default: file:DIR/keys/root.key)",
		allowed: "file:PATH, env:NAME, passphrase-env:NAME, passphrase-file:PATH, tpm:DEVICE, a key in a key store",
		set:     texts(func(c *Settings) *[]string { return &c.Server.RootKeys }),
	},
	{
		name: "root-key-wait",
		usage: "`DURATION` that a start waits for a protector of the root key that does not answer, if no other one " +
			"opens the data, or for the place of the epoch keys (default 5m)",
		allowed: "a duration such as 5m",
		set:     duration(func(c *Settings) *time.Duration { return &c.Server.RootKeyWait }),
	},
	{
		name: "recovery-recipient", list: true,
		usage: "`FINGERPRINT` of a recipient of recovery kits: the SHA-256 of the public key in DER; credentials of " +
			"operators make kits for these alone (default: only commands on this machine make kits)",
		allowed: "64 hexadecimal digits in lower case",
		set:     texts(func(c *Settings) *[]string { return &c.Server.RecoveryRecipients }),
	},
	{
		name: "recovery-threshold",
		usage: "`N` recipients that a recovery kit must need at least: fewer than that never open the instance " +
			"(default 1)",
		allowed: "a number from 1 to 255",
		set:     number(1, 255, func(c *Settings) *int { return &c.Server.RecoveryThreshold }),
	},
	{
		name: "stop-delay",
		usage: "`DURATION` that the server goes on after a stop was requested, while /readyz answers 503, so that a " +
			"balancer stops sending it requests before it refuses them (default none). TimeoutStopSec and the like " +
			"must exceed stop-delay and drain-timeout together by 20s",
		allowed: "a duration such as 10s",
		set:     duration(func(c *Settings) *time.Duration { return &c.Server.StopDelay }),
	},
	{
		name: "drain-timeout",
		usage: "`DURATION` that requests have to finish when the server stops (default 20s). TimeoutStopSec and the " +
			"like must exceed stop-delay and drain-timeout together by 20s",
		allowed: "a duration such as 20s",
		set:     duration(func(c *Settings) *time.Duration { return &c.Server.DrainTimeout }),
	},
	{
		name:    "log-level",
		usage:   "lowest `LEVEL` to log: debug, info, warn or error (default info)",
		allowed: "debug, info, warn, error",
		set:     setLogLevel,
	},
	{
		name:    "log-format",
		usage:   "`FORM` of log lines: text or json (default text)",
		allowed: "text, json",
		set:     setLogFormat,
	},
}

func text(field func(*Settings) *string) func(*Settings, string) error {
	return func(c *Settings, v string) error {
		if v == "" {
			return errors.New("is empty")
		}
		*field(c) = v
		return nil
	}
}

// database is the URL of a database. Its details are checked with the other settings.
func database(field func(*Settings) *string) func(*Settings, string) error {
	return func(c *Settings, v string) error {
		if !strings.HasPrefix(v, "postgres://") && !strings.HasPrefix(v, "postgresql://") {
			return errors.New("is not the URL of a PostgreSQL database")
		}
		*field(c) = v
		return nil
	}
}

func texts(field func(*Settings) *[]string) func(*Settings, string) error {
	return func(c *Settings, v string) error {
		if v == "" {
			return errors.New("is empty")
		}
		*field(c) = append(*field(c), v)
		return nil
	}
}

func truth(field func(*Settings) *bool) func(*Settings, string) error {
	return func(c *Settings, v string) error {
		switch v {
		case "true":
			*field(c) = true
		case "false":
			*field(c) = false
		default:
			return fmt.Errorf("is %q", v)
		}
		return nil
	}
}

func number(least, most int, field func(*Settings) *int) func(*Settings, string) error {
	return func(c *Settings, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("is %q", v)
		}
		*field(c) = n
		return nil
	}
}

func duration(field func(*Settings) *time.Duration) func(*Settings, string) error {
	return func(c *Settings, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("is %q", v)
		}
		*field(c) = d
		return nil
	}
}

func size(field func(*Settings) *int64) func(*Settings, string) error {
	return func(c *Settings, v string) error {
		for _, unit := range []struct {
			name  string
			shift int
		}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
			digits, found := strings.CutSuffix(v, unit.name)
			if !found {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
			if err != nil || n < 1 {
				break
			}
			*field(c) = n << unit.shift
			return nil
		}
		return fmt.Errorf("is %q", v)
	}
}

func setModel(c *Settings, v string) error {
	model, pack, _ := strings.Cut(v, "=")
	if model == "" || pack == "" {
		return fmt.Errorf("is %q", v)
	}
	if c.Server.Models[model] != "" {
		return fmt.Errorf("names %s twice", model)
	}
	if c.Server.Models == nil {
		c.Server.Models = map[string]string{}
	}
	c.Server.Models[model] = pack
	return nil
}

func setLogLevel(c *Settings, v string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn,
		"error": slog.LevelError}
	l, found := levels[v]
	if !found {
		return fmt.Errorf("is %q", v)
	}
	c.LogLevel = l
	return nil
}

func setLogFormat(c *Settings, v string) error {
	if v != "text" && v != "json" {
		return fmt.Errorf("is %q", v)
	}
	c.LogFormat = v
	return nil
}
