package server

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/recovery"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
)

// Config configures a server. The zero value of a field means its default.
type Config struct {
	// Dir is the folder under which the server keeps everything: data/ (the sealed store), keys/ (the root key file and
	// the epoch keys, never inside data/), operator.json and ca.pem. It is created with mode 0700 if it does not exist.
	// Default: see DefaultDir.
	Dir string

	// Engine is the storage engine of the sealed store, as sealed.Config has it: the URL of a PostgreSQL database,
	// without a password (docs/operations/postgres.md). Default: Pebble in <Dir>/data.
	Engine string

	// StorePasswordFile has the password of the database's role as its first line. Default: what PostgreSQL's own
	// programs use.
	StorePasswordFile string

	// EpochKeys is where the epoch keys lie: file:// with the absolute path of a folder that replicas share, the
	// address of a folder in a KV engine of HashiCorp Vault or OpenBao, or the URL of a PostgreSQL database on another
	// server than the data (docs/operations/epoch-keys.md). It holds no secret. Default: <Dir>/keys.
	EpochKeys string

	// EpochKeysSecretFile has, in its first line, what the login to EpochKeys needs: the token, the secret id or the
	// JWT for a KV engine, or the password of the database's role.
	EpochKeysSecretFile string

	// Listen is the address of the one listener, host:port. A port of 0 takes a free one; see Server.Ready. Default:
	// "127.0.0.1:8443", which only this machine can reach.
	Listen string

	// PublicURL is the origin that clients use if a proxy, such as one for TLS, is in front of Listen: a scheme, a host
	// name and, if it is not the scheme's default, a port. It is part of every address in answers, including those of
	// vaults and keys, and replaces Domain and PublicPort. Default: https, or http with PlainHTTP, and Domain at
	// PublicPort.
	PublicURL string

	// TrustedProxies are the addresses and CIDR blocks of proxies whose forwarding headers are believed: see
	// docs/operations/running.md. Default: none.
	TrustedProxies []string

	// Domain is the parent domain of the resources' hosts: resource r answers at https://r.<domain>. Clients must be
	// able to resolve these names; every resource also answers at <domain> itself, where its key selects it. Default:
	// "localhost".
	Domain string

	// PublicPort is the port that clients use, if a forwarder makes it differ from Listen's. It is part of the
	// identifiers of vaults and keys. Default: Listen's.
	PublicPort int

	// Names are further DNS names and IP addresses for the server's certificate. Domain, localhost, 127.0.0.1 and ::1
	// are always in it.
	Names []string

	// CertFile and KeyFile hold a certificate chain and its key in PEM, to be used instead of the server's own
	// authority. Both or neither. Both are read again when one of them changes, at most once a second; a pair that
	// cannot be read leaves the former certificate in use.
	CertFile, KeyFile string

	// PlainHTTP serves without TLS. It is refused unless Listen is a loopback address: for a proxy on the same machine.
	PlainHTTP bool

	// Pack is the model pack, by its folder or name, that makes the templates of all recognition models that Models
	// does not name. A name is looked for in <Dir>/packs, models/packs of the working directory, and the same beside
	// the program. Default: as the store remembers it; a new store takes "mobileface", and one from before packs were
	// remembered keeps "default", which made its templates.
	Pack string

	// Models says which model pack, by its folder or name, makes the templates of a recognition model, such as
	// "recognition_04". Templates of different packs are never compared. Default: see Pack.
	Models map[string]string

	// ClosedPacks are names of packs that serve no model any more and stay closed, although stored templates may be
	// theirs: use of such templates is refused. Default: all packs that a store has used are opened.
	ClosedPacks []string

	// Library is the path of the ONNX Runtime shared library. Default: as the npm package onnxruntime-node has it, in
	// models/node_modules of the working directory or beside the program.
	Library string

	// Parallel is how many photos are analysed at once; others wait. It limits memory. Default: the number of
	// processors.
	Parallel int

	// GalleryBytes limits the memory of loaded galleries, in bytes. Default: 1 GiB.
	GalleryBytes int64

	// DiskReserve is how many bytes of the data's volume are reserved for deletions, keys and the store's own work:
	// with less free, new data is refused. Default: a sixth of the volume, at most 256 MiB.
	DiskReserve int64

	// Rate is how many requests a second a resource of tier S0 or E0 may make, and how many at once. Default: 10, as in
	// the contract. F0 always has 20 a minute.
	Rate int

	// VaultRate and ManagementRate are how many requests a second one identity may send to the vaults and to the
	// management plane; ten times as many at once, and from one address five times as many. Defaults: 400, which is
	// Azure's 4,000 in 10 s, and 100.
	VaultRate, ManagementRate int

	// TokenRate is how many token requests a second one address may send, and ten times as many at once. Failed
	// sign-ins are slowed down long before. Default: 200.
	TokenRate int

	// Connections limits the connections at a time; half of them may come from one address that is not a trusted
	// proxy's. Beyond that, a connection is closed whose client has not authenticated: one of the same address, else
	// one of the address that has most, and first those on which no request was answered. Default: 2048.
	Connections int

	// AllowPrivateURLs lets detect fetch images from private, loopback and link-local addresses. Then every holder of a
	// key can send requests into the server's network. Default: false.
	AllowPrivateURLs bool

	// Shared runs the server as one of several replicas: further servers, each with a Dir of its own, may have the same
	// store open at the same time. All of them must say so, and use the same settings for keys, models and addresses:
	// docs/operations/cluster.md. It needs an Engine that can be shared. Default: false, and a store that is open
	// elsewhere is not opened.
	Shared bool

	// PeerListen is the address, host:port, at which this replica answers others for its partitions of large
	// collections, by mutual TLS with certificates of the instance's own. It needs Shared. Default: none; each
	// collection is searched by this replica alone.
	PeerListen string

	// PeerAddress is the address, host:port, at which other replicas reach PeerListen. Default: that of PeerListen.
	PeerAddress string

	// PartitionBytes is the memory of the largest collection that each replica searches as a whole, in bytes; larger
	// ones are cut into partitions of at most that size. It should be the same for all replicas. Default: half of
	// GalleryBytes.
	PartitionBytes int64

	// PartitionCopies is how many replicas have each partition. Default: 2.
	PartitionCopies int

	// Anchors is the folder for anchors, an absolute path, best on another volume: data that is older than its anchor
	// is refused. Default: <Dir>/keys/anchors, which detects a rollback of the data alone.
	Anchors string

	// AcceptRollback opens data that is older than its anchors, for example after a restore of files; this is audited.
	AcceptRollback bool

	// AutoApprove allows resources of tier E0 and customer-managed keys without the operator's approval, for people who
	// run Visage for themselves. Default: access requests wait for the operator.
	AutoApprove bool

	// AzureTenant, AzureClient and AzureSecretFile name an application in Azure and the file with its secret. Resources
	// use keys in Azure's vaults as this application, and not as their own identities. All or none. Default: none; only
	// keys in this instance's own vaults are accepted.
	AzureTenant, AzureClient, AzureSecretFile string
	// AzureResources are the resources that may use Azure's vaults as this application, as stores.Store.Resources has
	// it. Default: those that have a key in such a vault already, with that key.
	AzureResources []string
	azureNetwork   azureNetwork

	// KeyStores are stores of customers' keys, beside key vaults, that resources may use, and KeyStoresFile is a file
	// with further ones, as stores.Read has it. Operators can add others while the server runs. Default: none.
	KeyStores     []stores.Store
	KeyStoresFile string
	// FederationIssuer is the issuer that the tokens state by which identities of resources prove themselves to key
	// stores: an https URL where the issuer's documents are published, for an instance that the stores do not reach.
	// Default: the address of the tenant in this instance.
	FederationIssuer string
	// keyStoreFiles is the folder of the files that stores may name which are added while the server runs. Default:
	// <Dir>/keystores; a copy for a rehearsal has that of its original.
	keyStoreFiles string

	// KeyGrace is how long the data of a resource is served while the vault with its customer's key does not answer,
	// unless the resource has a grace of its own: 1 min to 24 h. An attacker who can block the vault can delay a
	// revocation by as much. Default: 60 min.
	KeyGrace time.Duration

	// TrustedIssuers are external OpenID Connect issuers whose tokens applications may send instead of a secret, each
	// as URL=AUDIENCE: the exact claim "iss" of its tokens, which is an https address below which it publishes its
	// keys, and the claim "aud" of its tokens for this instance. The subjects of an issuer are configured for each
	// application. Default: none.
	TrustedIssuers []string

	// ConsoleIssuers are external OpenID Connect issuers with which people sign in to the console, each as
	// URL=CLIENT_ID: the exact claim "iss" of its tokens, and the id under which the console is registered there. The
	// people, or groups of them, are configured for each person or application. Default: none.
	ConsoleIssuers []string

	// ConsoleIssuerSecretFiles name the files with the secrets under which the console is registered, each as URL=FILE.
	// Default: it is a public client.
	ConsoleIssuerSecretFiles []string

	// IssuerCAFile holds the certificates, in PEM, of authorities that may sign the certificates of trusted issuers and
	// of ConsoleIssuers, besides the system's.
	IssuerCAFile string

	// IdentityEndpoint is the address, host:port on loopback, of a managed identity endpoint: there, over plain HTTP,
	// programs on this machine get tokens of the identities that IdentityEndpointFor names, without a secret of their
	// own. A port of 0 takes a free one, which is written to <Dir>/identity-endpoint.env. Default: no endpoint.
	IdentityEndpoint string

	// IdentityEndpointFor names the identities whose tokens the managed identity endpoint issues: applications by name
	// or client id, managed identities by the path of their resource or an id. The operator's tokens are issued only if
	// it is among them. Required with IdentityEndpoint.
	IdentityEndpointFor []string

	// IdentityEndpointIMDS serves the form of the instance metadata service at the managed identity endpoint too. That
	// form requires no secret: every process on this machine gets the tokens. Default: false.
	IdentityEndpointIMDS bool

	// RootKeys are the protectors of the instance root key: any one of them opens the data. Each is one of
	//
	//	file:PATH               32 bytes in a file outside of the data directory, made by the first start; exposed
	//	env:NAME                32 bytes in an environment variable, in base64 or hexadecimal
	//	passphrase-env:NAME     a passphrase in an environment variable
	//	passphrase-file:PATH    a passphrase in the first line of a file
	//	tpm:DEVICE              a TPM 2.0, such as /dev/tpmrm0; see tpm.New for what may follow
	//	hashivault://…          a key in a store of KeyStores or KeyStoresFile, by its identifier; so for all kinds of
	//	                        stores. The login must not be by federation, since its tokens are signed by a key that
	//	                        the root key seals
	//
	// Default: file:<Dir>/keys/root.key.
	RootKeys []string

	// RootKeyWait is how long a start waits for a protector that is not on this machine, or a TPM, and does not answer,
	// while no other one opens the root key, and for the place of the epoch keys. Default: 5 min.
	RootKeyWait time.Duration

	// RecoveryRecipients are the fingerprints of those for whom a recovery kit may be made by the management plane, as
	// recovery.Fingerprint has them. Default: none; kits are made by commands on this machine alone.
	RecoveryRecipients []string

	// RecoveryThreshold is how many recipients a recovery kit that is made must need at least, 1 to 255, whoever makes
	// it. Default: 1.
	RecoveryThreshold int

	// Version is the version of the program, for pages about the instance. Default: it is not shown.
	Version string

	// StopDelay is how long the server goes on after a stop was requested, while /readyz answers 503, so that balancers
	// stop sending it requests before it stops answering them. Default: none.
	StopDelay time.Duration

	// DrainTimeout is how long requests may continue when the server stops, after StopDelay. Default: 20 s.
	DrainTimeout time.Duration

	// Logger receives the log for operators. Default: discard.
	Logger *slog.Logger

	rootStores *rootStores // set by withDefaults
	// keyStoreMemory is what this process remembers of key stores. Copies of the server share it. Set by withDefaults.
	keyStoreMemory *stores.Memory
	findKeys       bool // of OpenStoreWithoutKeys

	// Recogniser serves every recognition model instead of model packs, for tests of everything but vision. Packs and
	// Library are not used, and the store does not record it.
	Recogniser face.Recogniser

	// Recognisers are used instead of the installed packs of their names: for tests of several packs.
	Recognisers map[string]face.Recogniser

	// NewRSA makes the RSA keys of tokens and vaults, for tests that need many. Default: crypto/rsa does.
	NewRSA keyvault.RSAMaker
}

// DefaultDir returns the default of Config.Dir: $XDG_DATA_HOME/visage, or ~/.visage.
func DefaultDir() (string, error) {
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "visage"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the home directory: %w; set the data directory with --dir", err)
	}
	return filepath.Join(home, ".visage"), nil
}

// Limits of settings. A server that analyses more photos at once than this is misconfigured rather than large.
const (
	maxParallel     = 256
	minGalleryBytes = 1 << 20
	minDiskReserve  = 4 << 20
	maxStopDelay    = 5 * time.Minute
	maxDrainTimeout = time.Hour
	maxRootKeyWait  = 24 * time.Hour
	minConnections  = 16
)

var hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// Validate reports all mistakes in c, joined, each beginning with the name of its setting, or nil.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

// withDefaults returns c with the defaults filled in, and checks it. All mistakes are reported, joined, each beginning
// with the name of its setting.
func (c Config) withDefaults() (Config, error) {
	var mistakes []error
	bad := func(setting, format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("%s: %s", setting, fmt.Sprintf(format, args...)))
	}
	if c.Shared && c.Engine == "" {
		bad("shared", "needs a store that several servers can open, and the data directory is one server's: leave it "+
			"out, or set store to the URL of a database")
	}
	if c.Dir == "" {
		dir, err := DefaultDir()
		if err != nil {
			bad("dir", "%v", err)
		}
		c.Dir = dir
	}
	if abs, err := filepath.Abs(c.Dir); err == nil {
		c.Dir = abs
	} else {
		bad("dir", "%v", err)
	}
	setDefault(&c.Listen, "127.0.0.1:8443")
	c.takePublicURL(bad)
	setDefault(&c.Domain, "localhost")
	setDefault(&c.GalleryBytes, 1<<30)
	setDefault(&c.PartitionBytes, c.GalleryBytes/2)
	setDefault(&c.PartitionCopies, 2)
	setDefault(&c.Rate, int(visage.S0.Limits().Requests))
	setDefault(&c.VaultRate, 400)
	setDefault(&c.ManagementRate, 100)
	setDefault(&c.TokenRate, 200)
	setDefault(&c.Connections, 2048)
	setDefault(&c.DrainTimeout, 20*time.Second)
	setDefault(&c.KeyGrace, custody.DefaultGrace)
	setDefault(&c.RootKeyWait, 5*time.Minute)
	setDefault(&c.rootStores, &rootStores{})
	setDefault(&c.keyStoreMemory, &stores.Memory{})
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if len(c.RootKeys) == 0 {
		c.RootKeys = []string{"file:" + filepath.Join(c.Dir, keysFolder, "root.key")}
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		bad("listen", "must be host:port, such as 127.0.0.1:8443; got %q", c.Listen)
	}
	if c.PlainHTTP && err == nil && !isLoopback(host) {
		bad("plain-http", "without TLS, listen must be a loopback address; got %q", host)
	}
	if o, err := visage.ParseOrigin("https://" + c.Domain); err != nil || o.Host() != c.Domain {
		bad("domain", "must be a host name in lower case; got %q", c.Domain)
	}
	if _, err := parseProxies(c.TrustedProxies); err != nil {
		bad("trusted-proxy", "%v", err)
	}
	for _, n := range c.Names {
		if net.ParseIP(n) == nil && !hostPattern.MatchString(strings.TrimPrefix(n, "*.")) {
			bad("names", "must be host names in lower case or IP addresses; got %q", n)
		}
	}
	if c.onDatabase() {
		if err := sealed.CheckDatabase(c.Engine); err != nil {
			bad("store", "%v", err)
		}
	}
	if err := c.checkEpochKeys(); err != nil {
		bad("epoch-keys", "%v", err)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		bad("cert-file", "a certificate and its key go together: set both cert-file and key-file, or neither")
	}
	if c.KeyGrace < custody.MinGrace || c.KeyGrace > custody.MaxGrace {
		bad("key-grace", "must be between %v and %v; got %v", custody.MinGrace, custody.MaxGrace, c.KeyGrace)
	}
	c.checkAzure(bad)
	if c.FederationIssuer != "" {
		if err := identity.CheckPublicIssuer(c.FederationIssuer); err != nil {
			bad("federation-issuer", "%v", err)
		}
	}
	for _, store := range c.KeyStores {
		if err := store.Check(); err != nil {
			bad("key-stores", "%v", err)
		}
	}
	if c.CertFile != "" && c.PlainHTTP {
		bad("cert-file", "a certificate is not used without TLS: remove cert-file or plain-http")
	}
	for _, text := range c.TrustedIssuers {
		if _, _, err := parseIssuer("trust-issuer", "AUDIENCE", text); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	c.checkConsoleIssuers(&mistakes)
	for _, model := range slices.Sorted(maps.Keys(c.Models)) {
		switch {
		case !slices.Contains(RecognitionModels(), model):
			bad("model", "unknown recognition model %q; allowed: %s", model,
				strings.Join(RecognitionModels(), ", "))
		case c.Models[model] == "":
			bad("model", "%s needs the name or folder of a pack", model)
		}
	}
	if c.PublicPort < 0 || c.PublicPort > 65535 {
		bad("public-port", "must be between 1 and 65535; got %d", c.PublicPort)
	}
	if c.Parallel < 0 || c.Parallel > maxParallel {
		bad("parallel", "must be between 1 and %d; got %d", maxParallel, c.Parallel)
	}
	if c.Rate < 1 {
		bad("rate", "must be at least 1 request a second; got %d", c.Rate)
	}
	for name, rate := range map[string]int{"vault-rate": c.VaultRate, "management-rate": c.ManagementRate,
		"token-rate": c.TokenRate} {
		if rate < 1 {
			bad(name, "must be at least 1 request a second; got %d", rate)
		}
	}
	if c.Connections < minConnections {
		bad("connections", "must be at least %d; got %d", minConnections, c.Connections)
	}
	c.checkPartitions(bad)
	if c.GalleryBytes < minGalleryBytes {
		bad("gallery-memory", "must be at least %s; got %s", sizeText(minGalleryBytes), sizeText(c.GalleryBytes))
	}
	if c.DiskReserve != 0 && c.DiskReserve < minDiskReserve {
		bad("disk-reserve", "must be at least %s; got %s", sizeText(minDiskReserve), sizeText(c.DiskReserve))
	}
	if c.StopDelay < 0 || c.StopDelay > maxStopDelay {
		bad("stop-delay", "must be between 0 and %v; got %v", maxStopDelay, c.StopDelay)
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > maxDrainTimeout {
		bad("drain-timeout", "must be between 0 and %v; got %v", maxDrainTimeout, c.DrainTimeout)
	}
	if c.RootKeyWait < 0 || c.RootKeyWait > maxRootKeyWait {
		bad("root-key-wait", "must be between 0 and %v; got %v", maxRootKeyWait, c.RootKeyWait)
	}
	if c.RecoveryThreshold < 0 || c.RecoveryThreshold > recovery.MaxRecipients {
		bad("recovery-threshold", "must be between 1 and %d; got %d", recovery.MaxRecipients, c.RecoveryThreshold)
	}
	for _, name := range c.RecoveryRecipients {
		if b, err := hex.DecodeString(name); err != nil || len(b) != sha256.Size || name != strings.ToLower(name) {
			bad("recovery-recipient",
				"must be the SHA-256 of a public key, 64 hexadecimal digits in lower case; got %q", name)
		}
	}
	c.checkIdentityEndpoint(bad)
	seen := map[string]bool{}
	for _, k := range c.RootKeys {
		if _, err := c.protector(k); err != nil {
			bad("root-key", "%v", err)
		}
		if seen[k] {
			bad("root-key", "%q is given twice", k)
		}
		seen[k] = true
	}
	return c, errors.Join(mistakes...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// sizeText writes a number of bytes as a setting takes it, if one can.
func sizeText(n int64) string {
	for _, unit := range []struct {
		name  string
		shift int
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if whole := n >> unit.shift; whole > 0 && whole<<unit.shift == n {
			return fmt.Sprint(whole, unit.name)
		}
	}
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}
