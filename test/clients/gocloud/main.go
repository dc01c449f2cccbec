// Command gocloud encrypts and decrypts with a key of a vault, by Go CDK's secrets.
//
//	gocloud azurekeyvault://VAULT-HOST/keys/KEY
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/azurekeyvault" // answers for azurekeyvault://
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address string) (err error) {
	keeper, err := secrets.OpenKeeper(ctx, address)
	if err != nil {
		return fmt.Errorf("open key: %w", err)
	}
	defer func() { err = errors.Join(err, keeper.Close()) }()
	sealed, err := keeper.Encrypt(ctx, []byte("secret"))
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	opened, err := keeper.Decrypt(ctx, sealed)
	if err != nil {
		return fmt.Errorf("decrypt: %w", err)
	}
	if string(opened) != "secret" || string(sealed) == "secret" {
		return errors.New("what was decrypted is not what was encrypted")
	}
	fmt.Println("encrypted and decrypted")
	return nil
}
