package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/visage-face/visage/server"
)

// setting is one thing that can be set: by the flag --name, the environment variable VISAGE_NAME and the key name of
// the configuration file, in this order. The table below is the only list of them.
type setting struct {
	name    string
	usage   string
	list    bool // may be given several times; in the environment with commas between
	boolean bool
	allowed string // said with every mistake
	set     func(c *settings, value string) error
}

// settings is what the table fills.
type settings struct {
	server    server.Config
	logLevel  slog.Level
	logFormat string // "text" or "json"
}

const env = "VISAGE_"

// variable is the environment variable of a setting.
func (s setting) variable() string {
	return env + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

var table = []setting{
	{name: "dir", usage: "folder that holds everything the server keeps (default: ~/.visage)", allowed: "a path",
		set: text(func(c *settings) *string { return &c.server.Dir })},
	{name: "listen", usage: "address to listen on (default: 127.0.0.1:8443)", allowed: "host:port",
		set: text(func(c *settings) *string { return &c.server.Listen })},
	{
		name: "public-url",
		usage: "address that clients use, where something such as a TLS proxy stands before the listener;\n" +
			"in place of domain and public-port (default: of the two)",
		allowed: "a scheme, a host name and maybe a port",
		set:     text(func(c *settings) *string { return &c.server.PublicURL })},
	{name: "trusted-proxy", usage: "address or CIDR block of a proxy whose X-Forwarded-For or Forwarded is believed",
		list:    true,
		allowed: "addresses and CIDR blocks",
		set:     texts(func(c *settings) *[]string { return &c.server.TrustedProxies })},
	{name: "domain", usage: "resources are also reached at <name>.<domain> (default: localhost)",
		allowed: "a host name in lower case",
		set:     text(func(c *settings) *string { return &c.server.Domain })},
	{
		name:    "public-port",
		usage:   "port that clients use, where something forwards to the listener (default: the listener's own)",
		allowed: "a number from 1 to 65535",
		set:     number(1, 65535, func(c *settings) *int { return &c.server.PublicPort })},
	{name: "names", usage: "further host names and IP addresses the certificate shall be good for", list: true,
		allowed: "host names and IP addresses", set: texts(func(c *settings) *[]string { return &c.server.Names })},
	{name: "cert-file", usage: "certificate chain to use instead of the server's own authority",
		allowed: "the path of a PEM file",
		set:     text(func(c *settings) *string { return &c.server.CertFile })},
	{name: "key-file", usage: "key of cert-file", allowed: "the path of a PEM file",
		set: text(func(c *settings) *string { return &c.server.KeyFile })},
	{name: "plain-http", usage: "serve without TLS, on a loopback address only", boolean: true,
		allowed: "true or false",
		set:     truth(func(c *settings) *bool { return &c.server.PlainHTTP })},
	{name: "pack", usage: "model pack, by name or folder, for recognition models that model does not name\n" +
		"(default: what the store uses already; for a new one the pack that setup makes for it)",
		allowed: "the name or folder of a model pack",
		set:     text(func(c *settings) *string { return &c.server.Pack })},
	{name: "model", usage: "model pack of one recognition model, such as recognition_04=mobileface", list: true,
		allowed: "MODEL=PACK, the pack by its name or folder", set: setModel},
	{name: "closed-pack", usage: "model pack, by name, that is left closed: nothing that it made is needed any more",
		list:    true,
		allowed: "names of model packs", set: texts(func(c *settings) *[]string { return &c.server.ClosedPacks })},
	{name: "library", usage: "ONNX Runtime shared library (default: as npm installed it under models/)",
		allowed: "a path",
		set:     text(func(c *settings) *string { return &c.server.Library })},
	{name: "parallel", usage: "photos worked on at once (default: number of processors)",
		allowed: "a number from 1 to 256",
		set:     number(1, 256, func(c *settings) *int { return &c.server.Parallel })},
	{name: "gallery-memory", usage: "memory for galleries that are being searched (default: 1GiB)",
		allowed: "a size such as 512MiB or 4GiB, at least 1MiB",
		set:     size(func(c *settings) *int64 { return &c.server.GalleryBytes })},
	{
		name: "disk-reserve",
		usage: "disk that is kept for deletions and keys: with less free, what is new is refused (default: a sixth " +
			"of the volume, at most 256MiB)",
		allowed: "a size such as 64MiB or 1GiB, at least 4MiB",
		set:     size(func(c *settings) *int64 { return &c.server.DiskReserve })},
	{name: "rate", usage: "requests a second that a resource of tier S0 or E0 may make (default: 10)",
		allowed: "a number from 1 to 100000",
		set:     number(1, 100_000, func(c *settings) *int { return &c.server.Rate })},
	{
		name:    "vault-rate",
		usage:   "requests a second of one identity to the key vaults, ten times as many at once (default: 400)",
		allowed: "a number from 1 to 100000",
		set:     number(1, 100_000, func(c *settings) *int { return &c.server.VaultRate })},
	{name: "management-rate", usage: "likewise to the management plane (default: 100)",
		allowed: "a number from 1 to 100000",
		set:     number(1, 100_000, func(c *settings) *int { return &c.server.ManagementRate })},
	{name: "token-rate", usage: "tokens a second asked for from one address, ten times as many at once (default: 200)",
		allowed: "a number from 1 to 100000",
		set:     number(1, 100_000, func(c *settings) *int { return &c.server.TokenRate })},
	{name: "connections", usage: "connections at a time, half of them from one address (default: 2048)",
		allowed: "a number from 16 to 1000000",
		set:     number(16, 1_000_000, func(c *settings) *int { return &c.server.Connections })},
	{
		name: "anchors",
		usage: "folder of anchors, best on another volume: data older than they say is refused (default: " +
			"keys/anchors in dir)",
		allowed: "an absolute path", set: text(func(c *settings) *string { return &c.server.Anchors })},
	{name: "accept-rollback", usage: "open data that is older than its anchors, as after a restore; audited",
		boolean: true,
		allowed: "true or false", set: truth(func(c *settings) *bool { return &c.server.AcceptRollback })},
	{name: "allow-private-urls", usage: "let image URLs lead to private and loopback addresses", boolean: true,
		allowed: "true or false",
		set:     truth(func(c *settings) *bool { return &c.server.AllowPrivateURLs })},
	{
		name:    "auto-approve",
		usage:   "customer-managed keys without the operator's approval, for who runs it for themselves",
		boolean: true, allowed: "true or false",
		set: truth(func(c *settings) *bool { return &c.server.AutoApprove })},
	{
		name:    "key-grace",
		usage:   "how long data is served while the vault with a customer's key gives no answer (default: 1h)",
		allowed: "a duration from 1m to 24h",
		set:     duration(func(c *settings) *time.Duration { return &c.server.KeyGrace })},
	{name: "azure-tenant", usage: "tenant of the application as which keys in Azure's own vaults are used",
		allowed: "an id or a domain",
		set:     text(func(c *settings) *string { return &c.server.AzureTenant })},
	{name: "azure-client", usage: "client id of that application", allowed: "a client id",
		set: text(func(c *settings) *string { return &c.server.AzureClient })},
	{name: "azure-secret-file", usage: "file with that application's secret in its first line",
		allowed: "the path of a file",
		set:     text(func(c *settings) *string { return &c.server.AzureSecretFile })},
	{
		name:  "trust-issuer",
		usage: "issuer of OpenID Connect elsewhere whose tokens applications may show instead of a secret", list: true,
		allowed: "URL=AUDIENCE", set: texts(func(c *settings) *[]string { return &c.server.TrustedIssuers })},
	{
		name:    "issuer-ca-file",
		usage:   "authorities that trusted issuers' certificates may come from, besides the system's",
		allowed: "the path of a PEM file", set: text(func(c *settings) *string { return &c.server.IssuerCAFile })},
	{
		name:    "identity-endpoint",
		usage:   "loopback address of a managed identity endpoint, over plain HTTP (default: none)",
		allowed: "host:port on a loopback address",
		set:     text(func(c *settings) *string { return &c.server.IdentityEndpoint })},
	{name: "identity-endpoint-for", usage: "identities whose tokens that endpoint gives", list: true,
		allowed: "names or client ids of applications, paths or ids of managed identities",
		set:     texts(func(c *settings) *[]string { return &c.server.IdentityEndpointFor })},
	{name: "identity-endpoint-imds",
		usage:   "serve the form of the instance metadata service there too, which has no secret",
		boolean: true, allowed: "true or false",
		set: truth(func(c *settings) *bool { return &c.server.IdentityEndpointIMDS })},
	{
		name: "root-key",
		usage: "what opens the data: file:PATH, env:NAME, passphrase-env:NAME or passphrase-file:PATH;\n" +
			"any one of several does (default: file:<dir>/keys/root.key)", list: true,
		allowed: "file:PATH, env:NAME, passphrase-env:NAME, passphrase-file:PATH",
		set:     texts(func(c *settings) *[]string { return &c.server.RootKeys })},
	{name: "drain-timeout", usage: "how long requests may finish when the server stops (default: 20s)",
		allowed: "a duration such as 20s",
		set:     duration(func(c *settings) *time.Duration { return &c.server.DrainTimeout })},
	{name: "log-level", usage: "least level that is logged (default: info)", allowed: "debug, info, warn, error",
		set: setLogLevel},
	{name: "log-format", usage: "form of log lines (default: text)", allowed: "text, json", set: setLogFormat},
}

func text(field func(*settings) *string) func(*settings, string) error {
	return func(c *settings, v string) error {
		if v == "" {
			return errors.New("is empty")
		}
		*field(c) = v
		return nil
	}
}

func texts(field func(*settings) *[]string) func(*settings, string) error {
	return func(c *settings, v string) error {
		if v == "" {
			return errors.New("is empty")
		}
		*field(c) = append(*field(c), v)
		return nil
	}
}

func truth(field func(*settings) *bool) func(*settings, string) error {
	return func(c *settings, v string) error {
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

func number(least, most int, field func(*settings) *int) func(*settings, string) error {
	return func(c *settings, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("is %q", v)
		}
		*field(c) = n
		return nil
	}
}

func duration(field func(*settings) *time.Duration) func(*settings, string) error {
	return func(c *settings, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("is %q", v)
		}
		*field(c) = d
		return nil
	}
}

func size(field func(*settings) *int64) func(*settings, string) error {
	return func(c *settings, v string) error {
		for _, unit := range []struct {
			name  string
			shift int
		}{{"GiB", 30}, {"MiB", 20}} {
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

func setModel(c *settings, v string) error {
	model, pack, _ := strings.Cut(v, "=")
	if model == "" || pack == "" {
		return fmt.Errorf("is %q", v)
	}
	if c.server.Models[model] != "" {
		return fmt.Errorf("names %s twice", model)
	}
	if c.server.Models == nil {
		c.server.Models = map[string]string{}
	}
	c.server.Models[model] = pack
	return nil
}

func setLogLevel(c *settings, v string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn,
		"error": slog.LevelError}
	l, found := levels[v]
	if !found {
		return fmt.Errorf("is %q", v)
	}
	c.logLevel = l
	return nil
}

func setLogFormat(c *settings, v string) error {
	if v != "text" && v != "json" {
		return fmt.Errorf("is %q", v)
	}
	c.logFormat = v
	return nil
}

// flags collects the settings that were given as flags.
type flags struct {
	config string
	given  map[string][]string
}

// defineSettings adds a flag for each setting that only names, or all when there are none, and --config.
func defineSettings(fs *flag.FlagSet, only ...string) *flags {
	f := &flags{given: map[string][]string{}}
	fs.StringVar(&f.config, "config", "", "configuration file in YAML; its keys are the names of these flags")
	for _, s := range table {
		if len(only) > 0 && !slices.Contains(only, s.name) {
			continue
		}
		add := func(v string) error {
			f.given[s.name] = append(f.given[s.name], v)
			return nil
		}
		usage := s.usage
		if s.list {
			usage += "; may be repeated"
		}
		if s.boolean {
			fs.BoolFunc(s.name, usage, add)
		} else {
			fs.Func(s.name, usage, add)
		}
	}
	return f
}

// load puts flags, environment and file together, the first that says something winning. All mistakes are reported,
// each with its place and what is allowed.
func (f *flags) load() (*settings, error) {
	c := &settings{logFormat: "text"}
	var mistakes []error
	from := map[string]source{}
	if f.config == "" {
		f.config = os.Getenv(env + "CONFIG")
	}
	if f.config != "" {
		values, err := readConfig(f.config)
		if err != nil {
			mistakes = append(mistakes, err)
		}
		from = values
	}
	mistakes = append(mistakes, unknownVariables()...)
	for _, s := range table {
		if v, set := os.LookupEnv(s.variable()); set {
			values := []string{v}
			if s.list {
				values = strings.Split(v, ",")
			}
			from[s.name] = source{place: s.variable(), values: values}
		}
		if values := f.given[s.name]; values != nil {
			from[s.name] = source{place: "--" + s.name, values: values}
		}
		src, set := from[s.name]
		if !set {
			continue
		}
		if len(src.values) > 1 && !s.list {
			mistakes = append(
				mistakes, fmt.Errorf("%s: is given %d times; allowed: %s, once", src.place, len(src.values),
					s.allowed))
			continue
		}
		for _, v := range src.values {
			if err := s.set(c, v); err != nil {
				mistakes = append(mistakes, fmt.Errorf("%s: %w; allowed: %s", src.place, err, s.allowed))
			}
		}
	}
	mistakes = append(mistakes, c.server.Validate())
	if err := errors.Join(mistakes...); err != nil {
		return nil, &failure{err: err, code: exitUsage}
	}
	return c, nil
}

// source is where a setting's values come from.
type source struct {
	place  string
	values []string
}

// unknownVariables finds variables that begin as ours do and are none: most likely a typing error in one.
func unknownVariables() []error {
	known := []string{env + "CONFIG"}
	for _, s := range table {
		known = append(known, s.variable())
	}
	const forTests = env + "SHARED" // where the tests of a source tree find material that is not in it
	var mistakes []error
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		// Secrets that settings name (root-key, passphrases) live in variables of the operator's choice, by convention
		// VISAGE_SECRET_….
		if !strings.HasPrefix(name, env) || strings.HasPrefix(name, env+"SECRET_") || slices.Contains(known, name) ||
			name == forTests {
			continue
		}
		mistakes = append(mistakes,
			fmt.Errorf("%s: there is no such setting; allowed: %s; variables with secrets begin with %sSECRET_",
				name, strings.Join(known, ", "), env))
	}
	slices.SortFunc(mistakes, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return mistakes
}

// readConfig reads a configuration file: one level of keys, each a setting, each value a scalar or, where several are
// allowed, a list. What it could read is returned beside the mistakes, so that those in the values are reported too.
func readConfig(path string) (map[string]source, error) {
	values := map[string]source{}
	b, err := os.ReadFile(path)
	if err != nil {
		return values, fmt.Errorf("configuration file: %w", err)
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return values, fmt.Errorf("%s: is not YAML: %s", path, first)
	}
	if len(file.Docs) > 1 {
		return values, fmt.Errorf("%s: has %d documents; allowed: one", path, len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return values, nil
	}
	top, ok := file.Docs[0].Body.(ast.MapNode)
	if !ok {
		return values, fmt.Errorf("%s: is not a list of settings, \"name: value\" in each line", path)
	}
	var mistakes []error
	for it := top.MapRange(); it.Next(); {
		key := it.Key().GetToken().Value
		place := fmt.Sprintf("%s:%d: %s", path, it.Key().GetToken().Position.Line, key)
		i := slices.IndexFunc(table, func(s setting) bool { return s.name == key })
		if i < 0 {
			mistakes = append(mistakes, fmt.Errorf("%s: there is no such setting; allowed: %s", place, names()))
			continue
		}
		src := source{place: place}
		nodes := []ast.Node{it.Value()}
		if list, isList := it.Value().(*ast.SequenceNode); isList && table[i].list {
			nodes = list.Values
		}
		for _, n := range nodes {
			scalar, isScalar := n.(ast.ScalarNode)
			if _, isNull := n.(*ast.NullNode); !isScalar || isNull {
				mistakes = append(
					mistakes, fmt.Errorf("%s: is a %s; allowed: %s", place, strings.ToLower(n.Type().String()),
						table[i].allowed))
				continue
			}
			src.values = append(src.values, fmt.Sprint(scalar.GetValue()))
		}
		if len(src.values) > 0 {
			values[key] = src
		}
	}
	return values, errors.Join(mistakes...)
}

func names() string {
	var all []string
	for _, s := range table {
		all = append(all, s.name)
	}
	return strings.Join(all, ", ")
}
