package key

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/internal/durable"
)

func importKey() *cobra.Command {
	var when attributes
	var byok bool
	var kty string
	c := command.New("import NAME FILE", "Import a private key into a vault, from a PEM file or a BYOK tool",
		"visage key import faces key.pem --vault safe")
	c.Long = "Import a private key into a vault: from a PEM file, in PKCS #8 or PKCS #1, or with --byok from a " +
		"transfer blob, in which a BYOK tool has wrapped the key for a key exchange key of the vault."
	vault := defineVault(c, false)
	c.Flags().BoolVar(&byok, "byok", false, "FILE is a transfer blob, wrapped for a key of \"visage key create "+
		"--exchange\" in the vault")
	c.Flags().StringVar(&kty, "kty", "RSA-HSM", "`TYPE` of the key in a transfer blob: RSA-HSM or EC-HSM, in a "+
		"premium vault, RSA or EC")
	command.CompleteWords(c, "kty", "RSA", "RSA-HSM", "EC", "EC-HSM")
	when.define(c)
	return inVault(c, vault, func(ctx context.Context, keys *azkeys.Client, args []string) ([]key, error) {
		set, err := when.parse()
		if err != nil {
			return nil, err
		}
		var p azkeys.ImportKeyParameters
		if byok {
			p, err = readBlob(args[1], kty)
		} else {
			p.Key, err = readKey(args[1])
		}
		if err != nil {
			return nil, err
		}
		p.KeyAttributes = set
		made, err := keys.ImportKey(ctx, args[0], p, nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(made.KeyBundle), nil
	}, table)
}

// readKey reads a private key in the vault's form.
func readKey(path string) (*azkeys.JSONWebKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not a PEM file", path)
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
			return nil, fmt.Errorf("%s has an RSA key of %d primes; vaults take keys of two", path, len(k.Primes))
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
	return nil, fmt.Errorf("%s has a key of a type that vaults do not take; they take RSA and EC keys", path)
}

func backup() *cobra.Command {
	c := command.New("backup NAME FILE", "Write a key with all its versions to a file that only this server can "+
		"restore",
		"visage key backup faces faces.backup --vault safe")
	return doInVault(c, defineVault(c, false), func(ctx context.Context, keys *azkeys.Client, args []string) error {
		b, err := keys.BackupKey(ctx, args[0], nil)
		if err != nil {
			return err
		}
		return durable.WriteFile(args[1], b.Value)
	})
}

func restoreBackup() *cobra.Command {
	c := command.New("restore FILE",
		"Restore a key from a file of \"visage key backup\". The vault must have no key of that name.",
		"visage key restore faces.backup --vault safe")
	vault := c.Flags().String("vault", "", "`NAME` of the key vault (required)")
	operator.CompleteFlag(c, "vault", operator.Vaults)
	return inVault(c, vault, func(ctx context.Context, keys *azkeys.Client, args []string) ([]key, error) {
		b, err := os.ReadFile(args[0])
		if err != nil {
			return nil, err
		}
		back, err := keys.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: b}, nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(back.KeyBundle), nil
	}, table)
}
