// Command sigstore signs and verifies with a key of a vault, by the code that cosign reaches Azure's vaults with.
//
//	sigstore azurekms://VAULT-HOST/KEY
package main

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"os"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/azure" // answers for azurekms://
	"github.com/sigstore/sigstore/pkg/signature/options"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, reference string) error {
	signer, err := kms.Get(ctx, reference, crypto.SHA256)
	if err != nil {
		return fmt.Errorf("open key: %w", err)
	}
	public, err := signer.CreateKey(ctx, signer.DefaultAlgorithm())
	if err != nil {
		return fmt.Errorf("make or find key: %w", err)
	}
	message := []byte("an image that is signed")
	signature, err := signer.SignMessage(bytes.NewReader(message), options.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if err := signer.VerifySignature(bytes.NewReader(signature), bytes.NewReader(message)); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if signer.VerifySignature(bytes.NewReader(signature), bytes.NewReader([]byte("another"))) == nil {
		return fmt.Errorf("the signature of one message fits another")
	}
	fmt.Printf("signed and verified with a %T\n", public)
	return nil
}
