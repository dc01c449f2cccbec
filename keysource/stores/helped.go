package stores

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/helper"
	"github.com/visage-face/visage/keysource/kmip"
	"github.com/visage-face/visage/keysource/pkcs11"
)

// This file is what the stores have in common whose clients run in a process of their own: the same program, which is
// started with helper.Argument and calls ServeHelper.

// ServeHelper is what the program does in the process of a helper.
func ServeHelper() error { return helper.Serve(openHelped) }

// openHelped opens a store in the helper.
func openHelped(kind string, settings json.RawMessage, service helper.Service) (helper.Store, error) {
	switch kind {
	case pkcs11.Scheme:
		return openToken(settings, service)
	case kmip.Scheme:
		return openKMIP(settings, service)
	}
	return nil, fmt.Errorf("%q is no kind of store that a helper opens; the known ones are %s and %s", kind,
		pkcs11.Scheme, kmip.Scheme)
}

// confinement returns what the helper may use.
func (h Helper) confinement() (helper.Confinement, error) {
	for _, path := range append(append([]string(nil), h.Read...), h.Write...) {
		if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
			return helper.Confinement{}, fmt.Errorf("the helper reads and writes below absolute paths other than /; "+
				"got %q", path)
		}
	}
	c := helper.Confinement{Read: h.Read, Write: h.Write, Environment: h.Environment}
	for _, at := range h.Hosts {
		host, port, err := net.SplitHostPort(at)
		number, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || portErr != nil || host == "" || number == 0 {
			return helper.Confinement{}, fmt.Errorf("the helper's hosts are HOST:PORT; got %q", at)
		}
		c.Ports = append(c.Ports, uint16(number))
		c.Names = c.Names || net.ParseIP(host) == nil
	}
	return c, nil
}

// checkObject refuses an object that would be the same for all keys.
func (l Login) checkObject() error {
	if l.Object != "" && !strings.Contains(l.Object, nameMark) {
		return fmt.Errorf("the object %q is the same for all keys: write %s into it", l.Object, nameMark)
	}
	return nil
}

// errNoIdentity refuses keys of a resource without an identity.
var errNoIdentity = errors.New("the resource has no identity")

// object returns what a store knows the key of an identity by.
func (l Login) object(name string, as visage.PrincipalID) (string, error) {
	if as == "" {
		return "", errNoIdentity
	}
	form := cmp.Or(l.Object, "visage-"+principalMark+"-"+nameMark)
	return strings.NewReplacer(principalMark, string(as), nameMark, name).Replace(form), nil
}

// helped returns what opens keys in the helper of a store. nameOf returns what a key is called in the store.
func helped(s Store, nameOf func(name string) string) opener {
	return func(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
		object, err := s.Login.object(nameOf(key.Name), as)
		if err != nil {
			return nil, err
		}
		return s.process.Open(helper.Key{URI: key.Unversioned(), Version: key.Version, Object: object}), nil
	}
}
