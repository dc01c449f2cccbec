package stores

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strconv"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/helper"
	"github.com/visage-face/visage/keysource/kmip"
)

// keyManager is a server of the Key Management Interoperability Protocol.
var keyManager = kind{
	scheme:  kmip.Scheme,
	about:   "kmip://HOST, for servers of KMIP 1.4",
	address: kmip.ParseAddress,
	parse:   kmip.ParseKey,
	check:   checkKMIP,
	methods: kmipMethods,
	needs:   []string{"caFile"},
	remedy:  kmipRemedy,
	revoke:  kmipRevocation,
	connect: func(s Store, _ Assert) opener { return helped(s, kmip.Name) },
	helped:  kmipHelper,
}

var kmipMethods = []Method{
	{Name: "certificate", Needs: []string{"certificateFile", "secretFile"}, May: []string{"object"}},
}

func checkKMIP(s Store) error {
	rest := s.Helper
	rest.AllowUnmarked = false
	switch {
	case s.Endpoint != "" || s.LoginEndpoint != "":
		return errors.New("the address is that of the server: leave endpoint and loginEndpoint out")
	case !reflect.ValueOf(rest).IsZero():
		return errors.New("the helper of a KMIP server takes allowUnmarked alone: leave helper out, or all else in it")
	case s.CAFile == "":
		return errors.New("caFile is missing: it has the authorities of the server's certificate")
	}
	if err := s.Login.checkObject(); err != nil {
		return err
	}
	return s.Login.usesOf(kmipMethods)
}

// maxRoots bounds the authorities of a server, in bytes: they pass to the helper in one message.
const maxRoots = 32 << 10

func kmipHelper(s Store) (helper.Config, error) {
	roots, err := os.ReadFile(s.CAFile)
	if err != nil {
		return helper.Config{}, fmt.Errorf("read the authorities: %w", err)
	}
	if len(roots) > maxRoots {
		return helper.Config{}, fmt.Errorf("caFile has %d bytes, more than the %d that a helper takes: leave in it "+
			"the authorities of this server alone", len(roots), maxRoots)
	}
	host, port, err := net.SplitHostPort(kmip.Endpoint(s.Address))
	if err != nil {
		return helper.Config{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return helper.Config{}, err
	}
	settings, err := json.Marshal(kmip.Config{
		Address: s.Address, Roots: string(roots), Unmarked: s.Helper.AllowUnmarked,
	})
	return helper.Config{
		Kind: kmip.Scheme, Settings: settings,
		Confinement: helper.Confinement{Ports: []uint16{uint16(number)}, Names: net.ParseIP(host) == nil},
		Files:       map[string]string{kmip.Certificate: s.Login.CertificateFile, kmip.PrivateKey: s.Login.SecretFile},
	}, err
}

// kmipServer is one in the helper.
type kmipServer struct{ *kmip.Server }

// Open implements helper.Store.
func (s kmipServer) Open(key helper.Key) (keysource.Source, error) {
	return s.Server.Open(key.URI, key.Object, key.Version)
}

func openKMIP(settings json.RawMessage, service helper.Service) (helper.Store, error) {
	var cfg kmip.Config
	if err := json.Unmarshal(settings, &cfg); err != nil {
		return nil, fmt.Errorf("read the settings of the KMIP server: %w", err)
	}
	s, err := kmip.NewServer(cfg, service)
	if err != nil {
		return nil, err
	}
	return kmipServer{s}, nil
}
