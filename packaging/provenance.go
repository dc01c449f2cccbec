package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// statement is an in-toto statement, version 1, with SLSA provenance, version 1:
// https://slsa.dev/spec/v1.0/provenance
type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     provenance `json:"predicate"`
}

type resource struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

type provenance struct {
	BuildDefinition struct {
		BuildType            string            `json:"buildType"`
		ExternalParameters   map[string]string `json:"externalParameters"`
		InternalParameters   map[string]string `json:"internalParameters"`
		ResolvedDependencies []resource        `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

// payloadType is that of in-toto statements in envelopes.
const payloadType = "application/vnd.in-toto+json"

// seal writes the checksums of everything in the output, and the provenance; both are signed when a key is given.
func (p *product) seal(ctx context.Context, keyFile, builder string) error {
	var key signer
	if keyFile != "" {
		var err error
		if key, err = readKey(keyFile); err != nil {
			return err
		}
	}
	subjects, err := p.subjects()
	if err != nil {
		return err
	}
	made, err := p.provenance(ctx, subjects, builder)
	if err != nil {
		return err
	}
	name := "visage-" + p.version + ".intoto.json"
	if key.key != nil {
		// one envelope a line
		name += "l"
		envelope, err := key.envelope(ctx, made)
		if err != nil {
			return err
		}
		made = envelope
	}
	made = append(made, '\n')
	if err := p.writeBytes(name, made); err != nil {
		return err
	}
	subjects = append(subjects, resourceOf(name, made))
	var sums bytes.Buffer
	for _, s := range subjects {
		fmt.Fprintf(&sums, "%s  %s\n", s.Digest["sha256"], s.Name)
	}
	if err := p.writeBytes("SHA256SUMS", sums.Bytes()); err != nil {
		return err
	}
	if key.key == nil {
		return nil
	}
	signature, err := key.Sign(ctx, sums.Bytes())
	if err != nil {
		return err
	}
	return p.writeBytes("SHA256SUMS.sig", signature)
}

// resourceOf names a file by its content.
func resourceOf(name string, content []byte) resource {
	digest := sha256.Sum256(content)
	return resource{Name: name, Digest: map[string]string{"sha256": hex.EncodeToString(digest[:])}}
}

// subjects are the files of the output of this version, sorted by name.
func (p *product) subjects() ([]resource, error) {
	found, err := os.ReadDir(p.out)
	if err != nil {
		return nil, err
	}
	var all []resource
	for _, f := range found {
		if f.IsDir() || strings.HasPrefix(f.Name(), "SHA256SUMS") || strings.Contains(f.Name(), ".intoto.") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(p.out, f.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, resourceOf(f.Name(), b))
	}
	if len(all) == 0 {
		return nil, errors.New("nothing was made")
	}
	return all, nil
}

// provenance says what the subjects were made of and how.
func (p *product) provenance(ctx context.Context, subjects []resource, builder string) ([]byte, error) {
	commit, err := revision(p.host)
	if err != nil {
		return nil, err
	}
	s := statement{
		Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1", Subject: subjects,
	}
	d := &s.Predicate.BuildDefinition
	d.BuildType = homepage + "/blob/main/docs/operations/install.md#provenance"
	d.ExternalParameters = map[string]string{"source": "git+" + homepage, "version": p.version, "target": "release"}
	d.InternalParameters = map[string]string{
		"SOURCE_DATE_EPOCH": fmt.Sprint(p.time.Unix()), "GOFIPS140": os.Getenv("GOFIPS140"), "go": runtime.Version(),
	}
	for t := range p.built {
		said, err := p.output(ctx, compiler(t.arch), "--version")
		if err != nil {
			return nil, err
		}
		line, _, _ := strings.Cut(string(said), "\n")
		d.InternalParameters["cc-"+t.arch] = line
	}
	d.ResolvedDependencies = []resource{{URI: "git+" + homepage, Digest: map[string]string{"gitCommit": commit}}}
	for _, file := range []string{
		"go.sum", "models/package-lock.json", "console/npm/package-lock.json", "packaging/go.sum",
	} {
		b, err := os.ReadFile(filepath.Join(p.source, file))
		if err != nil {
			return nil, err
		}
		d.ResolvedDependencies = append(d.ResolvedDependencies, resourceOf(file, b))
	}
	s.Predicate.RunDetails.Builder.ID = builder
	return json.Marshal(s)
}

// signer signs with an ECDSA key: ASN.1 over SHA-256, as "openssl dgst -sha256 -verify" checks it. It implements
// dsse.Signer.
type signer struct {
	key *ecdsa.PrivateKey
	id  string // the SHA-256 of the public key
}

// readKey reads a private key in PKCS #8.
func readKey(file string) (signer, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return signer{}, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return signer{}, fmt.Errorf("%s is not PEM", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return signer{}, fmt.Errorf("%s: %w; make one with: openssl genpkey -algorithm EC "+
			"-pkeyopt ec_paramgen_curve:P-256", file, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return signer{}, fmt.Errorf("%s holds a %T, want an ECDSA key", file, parsed)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return signer{}, err
	}
	id := sha256.Sum256(public)
	return signer{key, hex.EncodeToString(id[:])}, nil
}

// Sign implements dsse.Signer.
func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	digest := sha256.Sum256(data)
	return s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// KeyID implements dsse.Signer.
func (s signer) KeyID() (string, error) { return s.id, nil }

func (s signer) envelope(ctx context.Context, payload []byte) ([]byte, error) {
	es, err := dsse.NewEnvelopeSigner(s)
	if err != nil {
		return nil, err
	}
	e, err := es.SignPayload(ctx, payloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("sign the provenance: %w", err)
	}
	return json.Marshal(e)
}
