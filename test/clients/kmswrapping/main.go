// Command kmswrapping wraps and unwraps with a key of a vault, by the code that HashiCorp Vault and OpenBao unseal
// themselves with. What it uses is in the environment, as those have it.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/go-kms-wrapping/wrappers/azurekeyvault/v2"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	w := azurekeyvault.NewWrapper()
	if _, err := w.SetConfig(ctx); err != nil {
		return fmt.Errorf("open key: %w", err)
	}
	secret := []byte("what opens the barrier")
	sealed, err := w.Encrypt(ctx, secret)
	if err != nil {
		return fmt.Errorf("wrap: %w", err)
	}
	opened, err := w.Decrypt(ctx, sealed)
	if err != nil {
		return fmt.Errorf("unwrap: %w", err)
	}
	if !bytes.Equal(opened, secret) || bytes.Contains(sealed.Ciphertext, secret) {
		return errors.New("what was unwrapped is not what was wrapped")
	}
	fmt.Println("wrapped and unwrapped under version", sealed.KeyInfo.KeyId)
	return nil
}
