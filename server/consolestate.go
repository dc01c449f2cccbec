package server

import (
	"cmp"
	"context"
	"crypto/fips140"
	"crypto/x509"
	"maps"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/console"
	"github.com/visage-face/visage/vision"
)

// instance tells the console about the running server.
type instance struct {
	backups

	layers  *layers
	cfg     Config
	started time.Time

	certificates []console.Certificate // that were read at the start, beside that of the listener
	served       *servedCertificates
}

// allCertificates returns the certificates that the instance serves, trusts or was shown, the first to end first.
func (i instance) allCertificates() []console.Certificate {
	all := slices.Clone(i.certificates)
	if own := i.layers.certificate.Load(); own != nil {
		all = append(all, *own)
	}
	i.served.mu.Lock()
	for host, ends := range i.served.ends {
		all = append(all, console.Certificate{Use: "issuer", Name: host, Ends: ends})
	}
	i.served.mu.Unlock()
	slices.SortFunc(all, func(a, b console.Certificate) int {
		return cmp.Or(a.Ends.Compare(b.Ends), strings.Compare(a.Name, b.Name))
	})
	return all
}

// certificateOf names a certificate for the console.
func certificateOf(use string, cert *x509.Certificate) console.Certificate {
	name := cert.Subject.CommonName
	if name == "" && len(cert.DNSNames) > 0 {
		name = cert.DNSNames[0]
	}
	return console.Certificate{Use: use, Name: cmp.Or(name, cert.Subject.String()), Ends: cert.NotAfter}
}

// State implements console.Instance.
func (i instance) State() console.State {
	l := i.layers
	s := console.State{
		Version: i.cfg.Version, Runtime: runtime.Version(), Started: i.started, FIPS: fips140.Enabled(),
		Enforced: fips140.Enforced(), Module: cryptographicModule(), Format: l.store.Maintenance().Format(),
		Certificates: i.allCertificates(),
		AnchorsApart: i.cfg.Anchors != "" && !strings.HasPrefix(i.cfg.Anchors, i.cfg.Dir+string(filepath.Separator)),
	}
	keys := l.store.EpochKeys()
	s.Keys = console.KeyPlace{Name: keys.Name, Grade: string(keys.Grade), Why: keys.Why, Refused: keys.Refused != nil,
		Unswept: keys.Unswept != nil}
	for _, v := range l.store.Maintenance().Volumes() {
		s.Volumes = append(s.Volumes, console.Volume{
			Holds: v.Holds, Free: v.Free, Total: v.Total, Reserve: v.Reserve, Full: v.Full,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(l.packs.choice.Used)) {
		p := console.Pack{Name: name, Models: l.packs.choice.serves(name), Open: l.packs.open[name] != nil}
		calibrated, ok := l.packs.open[name].(interface{ Calibration() *vision.Calibration })
		if ok && calibrated.Calibration() != nil {
			c := calibrated.Calibration()
			p.Pairs = c.Pairs
			for _, point := range c.Curve() {
				p.Curve = append(p.Curve, console.CurvePoint{
					Confidence: point.Confidence, Worst: point.Worst.Rate, All: point.All.Rate,
				})
			}
		}
		s.Packs = append(s.Packs, p)
	}
	root, err := l.store.RootKey().State(context.Background())
	if err != nil {
		return s // the store is closing, and the page with it
	}
	s.Root = console.RootKey{
		Version: root.Version, Made: root.Made, Exposed: root.Exposed, Kit: root.Kit, Proved: root.Proved,
		Ignored: root.Ignored, Rotating: root.Rotation.Running, Delayed: root.Rotation.Err != nil,
		Done: root.Rotation.Done, Total: root.Rotation.Total,
	}
	for _, p := range root.Protectors {
		s.Root.Protectors = append(s.Root.Protectors, console.Protector{
			Name: p.Name, Entry: p.Entry, Exposed: p.Exposed, Configured: p.Attached, Tested: p.Tested,
		})
	}
	return s
}

// cryptographicModule names the module of cryptography that the program was built with.
func cryptographicModule() string {
	const module = "Go Cryptographic Module"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, b := range info.Settings {
			if b.Key == "GOFIPS140" {
				return module + " " + b.Value
			}
		}
	}
	return module
}
