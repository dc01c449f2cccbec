package kmip_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	api "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/helper"
	"github.com/visage-face/visage/keysource/kmip"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/test/keystores"
)

// TestMain is also the helper, in which the client runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == helper.Argument {
		if err := helper.Serve(open); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// servers opens keys in the helper.
type servers struct{ *kmip.Server }

func (s servers) Open(key helper.Key) (keysource.Source, error) {
	return s.Server.Open(key.URI, key.Object, key.Version)
}

func open(_ string, settings json.RawMessage, service helper.Service) (helper.Store, error) {
	var cfg kmip.Config
	if err := json.Unmarshal(settings, &cfg); err != nil {
		return nil, err
	}
	s, err := kmip.NewServer(cfg, service)
	if err != nil {
		return nil, err
	}
	return servers{s}, nil
}

// serve runs the client of a server in a helper.
func serve(t testing.TB, k *keystores.KMIP, change ...func(*helper.Config)) *helper.Process {
	t.Helper()
	settings, err := json.Marshal(kmip.Config{Address: k.Address, Roots: k.CA()})
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(kmip.Endpoint(k.Address))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	cfg := helper.Config{
		Kind: "kmip", Settings: settings, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
		Files:       map[string]string{kmip.Certificate: k.CertificateFile, kmip.PrivateKey: k.KeyFile},
		Confinement: helper.Confinement{Ports: []uint16{uint16(number)}},
	}
	for _, c := range change {
		c(&cfg)
	}
	p, err := helper.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

type testLog struct{ testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

func key(k *keystores.KMIP, name, version string) helper.Key {
	return helper.Key{URI: k.Address + "/keys/" + name, Version: version, Object: name}
}

func TestConformance(t *testing.T) {
	k := keystores.StartKMIP(t)
	k.MakeKey("faces")
	k.MakeKey("other")
	p := serve(t, k)
	faces := func(testing.TB) keysource.Source { return p.Open(key(k, "faces", "")) }
	// during changes the server while a test runs.
	during := func(begin, end func()) func(testing.TB) keysource.Source {
		return func(t testing.TB) keysource.Source {
			begin()
			t.Cleanup(end)
			return faces(t)
		}
	}
	state := func(s api.State) func() {
		return func() { k.Change("faces", func(key *keystores.KMIPKey) { key.State = s }) }
	}
	stated := func(name string, s api.State, says string) sourcetest.Fault {
		return sourcetest.Fault{Name: name, Class: keysource.ErrDenied, Says: says,
			Source: during(state(s), state(api.StateActive))}
	}
	refused := func(reason api.ResultReason, class error, says string) sourcetest.Fault {
		return sourcetest.Fault{Name: says, Class: class, Says: says,
			Source: during(func() { k.Refuse(reason) }, func() { k.Refuse(0) })}
	}
	sourcetest.Run(t, sourcetest.Provider{
		Open:   faces,
		Other:  func(testing.TB) keysource.Source { return p.Open(key(k, "other", "")) },
		Stride: 3,
		Faults: []sourcetest.Fault{
			stated("deactivated", api.StateDeactivated, "deactivated"),
			stated("compromised", api.StateCompromised, "compromised"),
			stated("destroyed", api.StateDestroyed, "destroyed"),
			stated("not active yet", api.StatePreActive, "not active yet"),
			refused(api.ResultReasonPermissionDenied, keysource.ErrDenied, "PermissionDenied"),
			refused(api.ResultReasonItemNotFound, keysource.ErrDenied, "ItemNotFound"),
			refused(api.ResultReasonAuthenticationNotSuccessful, keysource.ErrDenied, "AuthenticationNotSuccessful"),
			refused(api.ResultReasonGeneralFailure, keysource.ErrUnknown, "GeneralFailure"),
			refused(api.ResultReasonOperationNotSupported, keysource.ErrUnknown, "OperationNotSupported"),
			refused(api.ResultReasonIllegalOperation, keysource.ErrUnknown, "IllegalOperation"),
			refused(api.ResultReasonInvalidField, keysource.ErrUnknown, "InvalidField"),
			{Name: "another port", Class: keysource.ErrUnknown, Says: "permission denied",
				Source: func(t testing.TB) keysource.Source {
					p := serve(t, k, func(c *helper.Config) { c.Confinement.Ports = []uint16{9} })
					return p.Open(key(k, "faces", ""))
				}},
			{Name: "no certificate", Class: keysource.ErrUnknown, Says: "read the certificate",
				Source: func(t testing.TB) keysource.Source {
					p := serve(t, k, func(c *helper.Config) { c.Files[kmip.Certificate] += "-of-nobody" })
					return p.Open(key(k, "faces", ""))
				}},
			{Name: "the certificate of another", Class: keysource.ErrUnknown, Says: "ask the server",
				Source: func(t testing.TB) keysource.Source {
					other := keystores.StartKMIP(t)
					p := serve(t, k, func(c *helper.Config) {
						c.Files[kmip.Certificate], c.Files[kmip.PrivateKey] = other.CertificateFile, other.KeyFile
					})
					return p.Open(key(k, "faces", ""))
				}},
			{Name: "another server", Class: keysource.ErrUnknown, Says: "certificate signed by unknown authority",
				Source: func(t testing.TB) keysource.Source {
					ca := k.CAFile
					k.CAFile = keystores.StartKMIP(t).CAFile
					p := serve(t, k)
					k.CAFile = ca
					return p.Open(key(k, "faces", ""))
				}},
		},
	})
}

var inner = bytes.Repeat([]byte("secret "), 8)

func want(t testing.TB, err, class error, reason keysource.Reason, says string) {
	t.Helper()
	e, ok := errors.AsType[*keysource.Error](err)
	if !ok || !errors.Is(err, class) || e.Reason != reason || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %v, %q and %q", err, class, reason, says)
	}
}

// TestReasons holds the reasons that people are told, and that the server's permission to decrypt with a key that is no
// longer active does not count.
func TestReasons(t *testing.T) {
	k := keystores.StartKMIP(t)
	id := k.MakeKey("faces")
	src := serve(t, k).Open(key(k, "faces", ""))
	blob, ref, err := src.Wrap(t.Context(), inner)
	if err != nil {
		t.Fatal(err)
	}
	if ref.Version != id {
		t.Errorf("the version is %q, want %q", ref.Version, id)
	}
	for state, reason := range map[api.State]keysource.Reason{
		api.StateDeactivated: keysource.Disabled, api.StateCompromised: keysource.Disabled,
		api.StateDestroyed: keysource.Missing, api.StatePreActive: keysource.NotYetValid,
	} {
		k.Change("faces", func(key *keystores.KMIPKey) { key.State = state })
		_, err := src.Unwrap(t.Context(), ref, blob)
		want(t, err, keysource.ErrDenied, reason, "the key is")
	}
	k.Change("faces", func(key *keystores.KMIPKey) { key.State, key.Denied = api.StateActive, true })
	_, err = src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.Permission, "PermissionDenied")
	k.Change("faces", func(key *keystores.KMIPKey) { key.Denied = false })
	if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
		t.Errorf("restored: %v", err)
	}
	altered := append([]byte(nil), blob...)
	altered[len(altered)-1] ^= 1
	_, err = src.Unwrap(t.Context(), ref, altered)
	want(t, err, keysource.ErrWrong, "", "CryptographicFailure")
	labelledBlob, _, err := src.Wrap(keysource.WithLabel(t.Context(), keysource.Label{Generation: 1}), inner)
	if err != nil {
		t.Fatal(err)
	}
	_, err = src.Unwrap(keysource.WithLabel(t.Context(), keysource.Label{Generation: 2}), ref, labelledBlob)
	want(t, err, keysource.ErrWrong, "", "CryptographicFailure")
	_, err = src.Unwrap(t.Context(), ref, labelledBlob)
	want(t, err, keysource.ErrWrong, "", "wrapped with a label")
}

// TestVersions follows the name, and reaches no key that has another one.
func TestVersions(t *testing.T) {
	k := keystores.StartKMIP(t)
	k.MakeKey("faces")
	p := serve(t, k)
	src := p.Open(key(k, "faces", ""))
	blob, ref, err := src.Wrap(t.Context(), inner)
	if err != nil {
		t.Fatal(err)
	}
	second := k.Rekey("faces")
	if d, err := src.Describe(t.Context(), keysource.Ref{}); err != nil || d.Ref.Version != second {
		t.Errorf("after the key was made anew: %+v, %v", d, err)
	}
	if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
		t.Errorf("by the earlier version: %v", err)
	}
	other := k.MakeKey("other")
	_, _, err = p.Open(key(k, "faces", other)).Wrap(t.Context(), inner)
	want(t, err, keysource.ErrDenied, keysource.Missing, "no key with the name")
	_, err = p.Open(key(k, "none", "")).Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrDenied, keysource.Missing, "no key with the name")
	k.MakeKey("faces")
	_, err = src.Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrUnknown, "", "2 objects have the name")
}

// TestFitness says of each key why it may not protect a resource.
func TestFitness(t *testing.T) {
	k := keystores.StartKMIP(t)
	lacks := func(names ...api.AttributeName) func(*keystores.KMIPKey) {
		return func(k *keystores.KMIPKey) { k.Unsaid = names }
	}
	p := serve(t, k)
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	for name, c := range map[string]struct {
		change func(*keystores.KMIPKey)
		of     keysource.Fitness
		says   string
	}{
		"fit":            {func(k *keystores.KMIPKey) { k.Until = end }, "", ""},
		"small":          {func(k *keystores.KMIPKey) { k.Bits = 128 }, keysource.FitType, "128 bits"},
		"extractable":    {func(k *keystores.KMIPKey) { k.Extractable = true }, keysource.FitProtection, "Extractable"},
		"readable":       {func(k *keystores.KMIPKey) { k.Readable = true }, keysource.FitProtection, "Sensitive"},
		"no Extractable": {lacks(api.AttributeNameExtractable), keysource.FitProtection, "Extractable is missing"},
		"no Sensitive":   {lacks(api.AttributeNameSensitive), keysource.FitProtection, "helper.allowUnmarked"},
		"encrypting": {func(k *keystores.KMIPKey) { k.Usage = api.CryptographicUsageEncrypt },
			keysource.FitOperations, "Usage Mask"},
	} {
		k.MakeKey(name, c.change)
		d, err := p.Open(key(k, name, "")).Describe(t.Context(), keysource.Ref{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.of == "" && (len(d.Unfit) > 0 || !d.Expires.Equal(end)) ||
			c.of != "" && !strings.Contains(d.Unfit[c.of], c.says) {
			t.Errorf("%s: %+v, want %q to say %q", name, d, c.of, c.says)
		}
	}
}

// TestUnmarked holds that the operator's permission is for what a server does not say, and not for what it says.
func TestUnmarked(t *testing.T) {
	k := keystores.StartKMIP(t)
	p := serve(t, k, func(c *helper.Config) {
		settings, err := json.Marshal(kmip.Config{Address: k.Address, Roots: k.CA(), Unmarked: true})
		if err != nil {
			t.Fatal(err)
		}
		c.Settings = settings
	})
	const sensitive, extractable = api.AttributeNameSensitive, api.AttributeNameExtractable
	for name, c := range map[string]struct {
		change func(*keystores.KMIPKey)
		says   string // empty: fit
	}{
		"nothing": {func(k *keystores.KMIPKey) { k.Unsaid = []api.AttributeName{sensitive, extractable} }, ""},
		"extractable": {func(k *keystores.KMIPKey) {
			k.Unsaid, k.Extractable = []api.AttributeName{sensitive}, true
		}, "Extractable false"},
		"readable": {func(k *keystores.KMIPKey) {
			k.Unsaid, k.Readable = []api.AttributeName{extractable}, true
		}, "Sensitive true"},
	} {
		k.MakeKey(name, c.change)
		d, err := p.Open(key(k, name, "")).Describe(t.Context(), keysource.Ref{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if says := d.Unfit[keysource.FitProtection]; !strings.Contains(says, c.says) || c.says == "" && says != "" {
			t.Errorf("%s: %q, want %q", name, says, c.says)
		}
	}
}

// here has the files of the service in this process.
type here struct{ certificate, key string }

func (h here) File(_ context.Context, name string) ([]byte, error) {
	if name == kmip.PrivateKey {
		return os.ReadFile(h.key)
	}
	return os.ReadFile(h.certificate)
}

// TestAnswers holds that nothing but the answer to the question is one.
func TestAnswers(t *testing.T) {
	k := keystores.StartKMIP(t)
	attributes := func(id string) *payloads.GetAttributesResponsePayload {
		return &payloads.GetAttributesResponsePayload{UniqueIdentifier: id, Attribute: []api.Attribute{
			{AttributeName: api.AttributeNameState, AttributeValue: api.StateActive},
		}}
	}
	say := func(items ...api.ResponseBatchItem) []byte {
		return ttlv.MarshalTTLV(&api.ResponseMessage{
			Header: api.ResponseHeader{
				ProtocolVersion: api.V1_4, TimeStamp: time.Now(), BatchCount: int32(len(items)),
			},
			BatchItem: items,
		})
	}
	item := func(payload api.OperationPayload) api.ResponseBatchItem {
		return api.ResponseBatchItem{Operation: payload.Operation(), ResponsePayload: payload}
	}
	good := say(item(attributes("1")))
	const question = "the answer is not the one to the question"
	for name, c := range map[string]struct {
		answer []byte
		class  error
		says   string
	}{
		"active":      {good, nil, ""},
		"another key": {say(item(attributes("2"))), keysource.ErrWrong, "answered for key"},
		"another operation": {say(item(&payloads.ActivateResponsePayload{UniqueIdentifier: "1"})),
			keysource.ErrUnknown, question},
		"two answers":        {say(item(attributes("1")), item(attributes("1"))), keysource.ErrUnknown, question},
		"no answer":          {say(), keysource.ErrUnknown, ""},
		"HTML":               {[]byte("HTTP/1.1 403 Forbidden\r\n\r\n<html>"), keysource.ErrUnknown, "ask the server"},
		"truncated":          {good[:len(good)-9], keysource.ErrUnknown, "ask the server"},
		"larger than it may": {[]byte("\x42\x00\x7b\x01\xff\xff\xff\xf0"), keysource.ErrUnknown, "ask the server"},
		"nothing":            {nil, keysource.ErrUnknown, "ask the server"},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := kmip.NewServer(kmip.Config{Address: k.Impostor(c.answer), Roots: k.CA()},
				here{k.CertificateFile, k.KeyFile})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			})
			src, err := server.Open("uri", "faces", "")
			if err != nil {
				t.Fatal(err)
			}
			d, err := src.Describe(t.Context(), keysource.Ref{URI: "uri", Version: "1"})
			if c.class == nil {
				if err != nil || !d.Enabled {
					t.Errorf("got %+v, %v", d, err)
				}
				return
			}
			want(t, err, c.class, "", c.says)
		})
	}
}

// TestLate holds that a call ends with its context, whatever the server does.
func TestLate(t *testing.T) {
	k := keystores.StartKMIP(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	server, err := kmip.NewServer(kmip.Config{Address: "kmip://" + silent.Addr().String(), Roots: k.CA()},
		here{k.CertificateFile, k.KeyFile})
	if err != nil {
		t.Fatal(err)
	}
	src, err := server.Open("uri", "faces", "")
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("the caller has left")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, cause)
	defer cancel()
	if _, _, err := src.Wrap(ctx, inner); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause", err)
	}
}
