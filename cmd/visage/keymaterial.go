package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/visage-face/visage/internal/durable"
)

func keyImportCommand() command {
	var when keyAttributes
	return keyCommand(command{
		name: "key import", args: "NAME FILE",
		summary: "Put a private key that was made elsewhere into a vault: a PEM file, PKCS #8 or PKCS #1.",
		example: "visage key import faces key.pem --vault safe",
	}, 2, when.define, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		attributes, err := when.attributes()
		if err != nil {
			return nil, err
		}
		material, err := readKey(args[1])
		if err != nil {
			return nil, err
		}
		made, err := c.ImportKey(ctx, args[0], azkeys.ImportKeyParameters{Key: material, KeyAttributes: attributes},
			nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(made.KeyBundle), nil
	}, printVaultKeys)
}

// readKey reads a private key as the vault takes it.
func readKey(path string) (*azkeys.JSONWebKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is no PEM file", path)
	}
	defer clear(block.Bytes)
	var key any
	if block.Type == "RSA PRIVATE KEY" {
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("read the private key in %s: %w", path, err)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if len(k.Primes) != 2 {
			return nil, fmt.Errorf("%s has a key of %d primes; two are usual", path, len(k.Primes))
		}
		k.Precompute()
		return &azkeys.JSONWebKey{
			Kty: to.Ptr(azkeys.KeyTypeRSA), N: k.N.Bytes(), E: big.NewInt(int64(k.E)).Bytes(), D: k.D.Bytes(),
			P: k.Primes[0].Bytes(), Q: k.Primes[1].Bytes(),
			DP: k.Precomputed.Dp.Bytes(), DQ: k.Precomputed.Dq.Bytes(), QI: k.Precomputed.Qinv.Bytes(),
		}, nil
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		point, err := k.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		half := len(point) / 2
		return &azkeys.JSONWebKey{
			Kty: to.Ptr(azkeys.KeyTypeEC), Crv: to.Ptr(azkeys.CurveName(k.Curve.Params().Name)), X: point[1 : 1+half],
			Y: point[1+half:], D: d,
		}, nil
	}
	return nil, fmt.Errorf("%s has a key of a kind that vaults do not take: RSA and EC are", path)
}

func keyBackupCommand() command {
	return keyCommand(command{
		name: "key backup", args: "NAME FILE",
		summary: "Write a key with all its versions to a file that only this server can restore.",
		example: "visage key backup faces faces.backup --vault safe",
	}, 2, nil, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		b, err := c.BackupKey(ctx, args[0], nil)
		if err != nil {
			return nil, err
		}
		return nil, durable.WriteFile(args[1], b.Value)
	}, nil)
}

func keyRestoreCommand() command {
	return keyCommand(command{
		name: "key restore", args: "FILE",
		summary: "Bring a key back from such a file, into a vault that has none of its name.",
		example: "visage key restore faces.backup --vault safe",
	}, 1, nil, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		b, err := os.ReadFile(args[0])
		if err != nil {
			return nil, err
		}
		back, err := c.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: b}, nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(back.KeyBundle), nil
	}, printVaultKeys)
}

func keyPolicyCommand() command {
	var every, before string
	return keyCommand(command{
		name: "key policy", args: "NAME", summary: "Show or set when a key is rotated by itself.",
		example: "visage key policy faces --vault safe --rotate-after P90D",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&every, "rotate-after", "", "age at which a new version is made, such as P90D; \"never\" ends it")
		fs.StringVar(&before, "expires-after", "", "life of each new version, such as P2Y")
	}, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		if every == "" && before == "" {
			now, err := c.GetKeyRotationPolicy(ctx, args[0], nil)
			return now.KeyRotationPolicy, err
		}
		p := azkeys.KeyRotationPolicy{LifetimeActions: []*azkeys.LifetimeAction{}}
		if every != "" && every != "never" {
			p.LifetimeActions = append(p.LifetimeActions, &azkeys.LifetimeAction{
				Action:  &azkeys.LifetimeActionType{Type: to.Ptr(azkeys.KeyRotationPolicyActionRotate)},
				Trigger: &azkeys.LifetimeActionTrigger{TimeAfterCreate: &every},
			})
		}
		if before != "" {
			p.Attributes = &azkeys.KeyRotationPolicyAttributes{ExpiryTime: &before}
		}
		set, err := c.UpdateKeyRotationPolicy(ctx, args[0], p, nil)
		return set.KeyRotationPolicy, err
	}, func(w io.Writer, answer any) {
		// The policy is a small document with a form of its own; it is shown as it is.
		b, err := json.MarshalIndent(answer, "", "  ")
		if err == nil {
			_, err = fmt.Fprintln(w, string(b))
		}
		if err != nil {
			fmt.Fprintln(w, errors.Unwrap(err))
		}
	})
}
