package server

import (
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
)

// Config says what a server is made of. The zero value of a field means its default.
type Config struct {
	// Dir is the folder under which the server keeps everything: data/ (the sealed store), keys/ (the root key file and
	// the epoch keys, never inside data/), operator.json and ca.pem. It is made, with mode 0700, when it does not
	// exist. Default: see DefaultDir.
	Dir string

	// Listen is the address of the one listener, host:port. A port of 0 takes a free one; see Server.Ready.
	// Default: "127.0.0.1:8443", which this machine alone can reach.
	Listen string

	// PublicURL is the origin that clients use, where something stands in front of Listen, such as a proxy that speaks
	// TLS: a scheme, a host name and, where it is not the scheme's own, a port. It is in every address that the server
	// gives, those of vaults and keys included, and takes the place of Domain and PublicPort. Default: https, or http
	// with PlainHTTP, and Domain at PublicPort.
	PublicURL string

	// TrustedProxies are the addresses and CIDR blocks of proxies whose word is taken on where a request came from: see
	// docs/operations/running.md. Default: nobody's.
	TrustedProxies []string

	// Domain is the name under which resources have a host of their own: resource r answers at https://r.<domain>.
	// Clients have to be able to look such names up; every resource answers at <domain> itself too, told apart by its
	// key. Default: "localhost".
	Domain string

	// PublicPort is the port that clients use, where it is not Listen's own: behind what forwards to it. It is part of
	// the identifiers of vaults and keys. Default: Listen's.
	PublicPort int

	// Names are further DNS names and IP addresses that the server's certificate shall be good for. Domain, localhost,
	// 127.0.0.1 and ::1 always are.
	Names []string

	// CertFile and KeyFile hold a certificate chain and its key in PEM, to be used instead of the server's own
	// authority. Both or neither. They are read once, at the start.
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

	// ClosedPacks are names of packs, serving no model any more, that are left closed though they made something
	// before, for nothing needs it: it is refused. Default: all packs that a store has used are open.
	ClosedPacks []string

	// Library is the path of the ONNX Runtime shared library. Default: as the npm package onnxruntime-node has it, in
	// models/node_modules of the working directory or beside the program.
	Library string

	// Parallel is how many photos are worked on at once; more wait their turn. It bounds memory. Default: number of
	// processors.
	Parallel int

	// GalleryBytes bounds the memory of the galleries that are loaded for searching, in bytes. Default: 1 GiB.
	GalleryBytes int64

	// DiskReserve is how many bytes of the data's volume are kept for deletions, keys and the store's own work: with
	// less free, what is new is refused. Default: a sixth of the volume, of at most 256 MiB.
	DiskReserve int64

	// Rate is how many requests a second a resource of tier S0 or E0 may make, and how many at once. Default: 10, as
	// the contract has it. F0 keeps its 20 a minute.
	Rate int

	// VaultRate and ManagementRate are how many requests a second one identity may send to the vaults and to the
	// management plane; ten times as many at once, and from one address five times as many. Defaults: 400, which is
	// Azure's 4,000 in 10 s, and 100.
	VaultRate, ManagementRate int

	// TokenRate is how many tokens a second may be asked for from one address, and ten times as many at once. Sign-ins
	// that fail slow down long before. Default: 200.
	TokenRate int

	// Connections bounds the connections at a time; half of them may come from one address that is not a trusted
	// proxy's. Beyond that, a connection is closed whose client has not authenticated: one of the same address, else of
	// the address that has most, first those that no request was answered on. Default: 2048.
	Connections int

	// AllowPrivateURLs lets detect fetch images from private, loopback and link-local addresses. That makes the server
	// a way into the network it stands in, for everyone who has a key. Default: false.
	AllowPrivateURLs bool

	// Anchors is the folder where the newest states of the data are kept, an absolute path, best on another volume:
	// data that is older is refused. Default: <Dir>/keys/anchors, which tells when the data alone was put back.
	Anchors string

	// AcceptRollback opens data that is older than its anchors, as after a restore of files; it is audited.
	AcceptRollback bool

	// AutoApprove lets the subscription have resources of tier E0, and put them under keys of its own, without the
	// operator's approval: for people who run Visage for themselves. Default: access requests wait for the operator.
	AutoApprove bool

	// AzureTenant, AzureClient and AzureSecretFile name an application in Azure and the file with its secret: as this
	// application, and not as their own identities, resources use keys in vaults of Azure's. All or none. Default:
	// none; keys in this instance's own vaults alone are taken.
	AzureTenant, AzureClient, AzureSecretFile string

	// KeyGrace is how long the data of a resource is served while the vault with its customer's key gives no answer,
	// for resources that have said nothing else: 1 min to 24 h. Whoever can cut the vault off can delay a revocation by
	// it. Default: 60 min.
	KeyGrace time.Duration

	// TrustedIssuers are issuers of OpenID Connect elsewhere whose tokens applications may show instead of a secret,
	// each as URL=AUDIENCE: the claim "iss" of its tokens, to the letter, an https address below which it publishes its
	// keys, and the claim "aud" that its tokens for this instance have. Who of an issuer is which application is said
	// for each application. Default: none.
	TrustedIssuers []string

	// IssuerCAFile holds authorities in PEM that trusted issuers' certificates may come from, besides the system's.
	IssuerCAFile string

	// IdentityEndpoint is the address, host:port on loopback, of a managed identity endpoint: there, over plain HTTP,
	// programs on this machine get tokens of the identities that IdentityEndpointFor names, without a secret of their
	// own. A port of 0 takes a free one; <Dir>/identity-endpoint.env tells it. Default: there is none.
	IdentityEndpoint string

	// IdentityEndpointFor names the identities whose tokens the managed identity endpoint gives: applications by name
	// or client id, managed identities by the path of their resource or an id. The operator's are given only when it is
	// among them. Required with IdentityEndpoint.
	IdentityEndpointFor []string

	// IdentityEndpointIMDS serves the form of the instance metadata service at the managed identity endpoint too. That
	// form has no secret: every process on this machine gets the tokens. Default: false.
	IdentityEndpointIMDS bool

	// RootKeys are the protectors of the instance root: any one of them opens the data. Each is one of
	//
	//	file:PATH               32 bytes in a file outside of the data directory, made by the first start; exposed
	//	env:NAME                32 bytes in an environment variable, in base64 or hexadecimal
	//	passphrase-env:NAME     a passphrase in an environment variable
	//	passphrase-file:PATH    a passphrase in the first line of a file
	//
	// Default: file:<Dir>/keys/root.key.
	RootKeys []string

	// DrainTimeout is how long requests may go on after the server was told to stop. Default: 20 s.
	DrainTimeout time.Duration

	// Logger gets what an operator should know. Default: discard.
	Logger *slog.Logger

	// Recogniser serves every recognition model instead of model packs: for tests of all that is not vision. Packs and
	// Library are not looked at, and the store remembers nothing of it.
	Recogniser face.Recogniser

	// Recognisers are used instead of the installed packs of their names: for tests of several packs.
	Recognisers map[string]face.Recogniser
}

// DefaultDir returns where a server keeps everything when nothing else is said: $XDG_DATA_HOME/visage, or ~/.visage.
func DefaultDir() (string, error) {
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "visage"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the home directory: %w; say where to keep the data with --dir", err)
	}
	return filepath.Join(home, ".visage"), nil
}

// Bounds of settings. A program that works on more photos at once than this is misconfigured rather than large.
const (
	maxParallel     = 256
	minGalleryBytes = 1 << 20
	minDiskReserve  = 4 << 20
	maxDrainTimeout = time.Hour
	minConnections  = 16
)

var hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// Validate reports all mistakes in c, joined, each beginning with the name of its setting, or nil.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

// withDefaults fills in what is not set and checks the rest. All mistakes are reported, joined, each beginning with the
// name of its setting.
func (c Config) withDefaults() (Config, error) {
	var mistakes []error
	bad := func(setting, format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("%s: %s", setting, fmt.Sprintf(format, args...)))
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
	setDefault(&c.Rate, int(visage.S0.Limits().Requests))
	setDefault(&c.VaultRate, 400)
	setDefault(&c.ManagementRate, 100)
	setDefault(&c.TokenRate, 200)
	setDefault(&c.Connections, 2048)
	setDefault(&c.DrainTimeout, 20*time.Second)
	setDefault(&c.KeyGrace, custody.DefaultGrace)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if len(c.RootKeys) == 0 {
		c.RootKeys = []string{"file:" + filepath.Join(c.Dir, keysFolder, "root.key")}
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		bad("listen", "%q is not host:port, such as 127.0.0.1:8443", c.Listen)
	}
	if c.PlainHTTP && err == nil && !isLoopback(host) {
		bad("plain-http", "without TLS only a loopback address can be listened on, and %q is not one", host)
	}
	if o, err := visage.ParseOrigin("https://" + c.Domain); err != nil || o.Host() != c.Domain {
		bad("domain", "%q is not a host name in lower case", c.Domain)
	}
	if _, err := parseProxies(c.TrustedProxies); err != nil {
		bad("trusted-proxy", "%v", err)
	}
	for _, n := range c.Names {
		if net.ParseIP(n) == nil && !hostPattern.MatchString(strings.TrimPrefix(n, "*.")) {
			bad("names", "%q is neither a host name in lower case nor an IP address", n)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		bad("cert-file", "a certificate and its key go together: set both cert-file and key-file, or neither")
	}
	if c.KeyGrace < custody.MinGrace || c.KeyGrace > custody.MaxGrace {
		bad("key-grace", "%v is not between %v and %v", c.KeyGrace, custody.MinGrace, custody.MaxGrace)
	}
	if whole := (c.AzureTenant != "") == (c.AzureClient != "") &&
		(c.AzureClient != "") == (c.AzureSecretFile != ""); !whole {
		bad("azure-tenant", "azure-tenant, azure-client and azure-secret-file go together: set all three, or none")
	}
	if c.CertFile != "" && c.PlainHTTP {
		bad("cert-file", "there is no certificate without TLS: remove cert-file or plain-http")
	}
	for _, text := range c.TrustedIssuers {
		if _, _, err := parseIssuer(text); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	for _, model := range slices.Sorted(maps.Keys(c.Models)) {
		switch {
		case !slices.Contains(RecognitionModels(), model):
			bad("model", "there is no recognition model %q; allowed: %s", model,
				strings.Join(RecognitionModels(), ", "))
		case c.Models[model] == "":
			bad("model", "%s is mapped to no pack", model)
		}
	}
	if c.PublicPort < 0 || c.PublicPort > 65535 {
		bad("public-port", "%d is not a port", c.PublicPort)
	}
	if c.Parallel < 0 || c.Parallel > maxParallel {
		bad("parallel", "%d is not between 1 and %d", c.Parallel, maxParallel)
	}
	if c.Rate < 1 {
		bad("rate", "%d requests a second are none", c.Rate)
	}
	for name, rate := range map[string]int{"vault-rate": c.VaultRate, "management-rate": c.ManagementRate,
		"token-rate": c.TokenRate} {
		if rate < 1 {
			bad(name, "%d requests a second are none", rate)
		}
	}
	if c.Connections < minConnections {
		bad("connections", "%d are fewer than the least, %d", c.Connections, minConnections)
	}
	if c.GalleryBytes < minGalleryBytes {
		bad("gallery-memory", "%d bytes are less than the least, 1 MiB", c.GalleryBytes)
	}
	if c.DiskReserve != 0 && c.DiskReserve < minDiskReserve {
		bad("disk-reserve", "%d bytes are less than the least, 4 MiB", c.DiskReserve)
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > maxDrainTimeout {
		bad("drain-timeout", "%v is not between 0 and %v", c.DrainTimeout, maxDrainTimeout)
	}
	c.checkIdentityEndpoint(bad)
	seen := map[string]bool{}
	for _, k := range c.RootKeys {
		if _, err := c.protector(k); err != nil {
			bad("root-key", "%v", err)
		}
		if seen[k] {
			bad("root-key", "%q is there twice", k)
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
