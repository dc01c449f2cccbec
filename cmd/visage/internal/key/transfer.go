package key

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
)

// importOnly are the operations of a key exchange key, which the client has no name for.
func importOnly() []*azkeys.KeyOperation {
	return []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperation("import"))}
}

// readBlob reads a transfer blob, of a key of the given type, in the vault's form.
func readBlob(path, kty string) (azkeys.ImportKeyParameters, error) {
	blob, err := os.ReadFile(path)
	if err != nil {
		return azkeys.ImportKeyParameters{}, err
	}
	return azkeys.ImportKeyParameters{
		Key: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyType(kty)), T: blob}, HSM: to.Ptr(strings.HasSuffix(kty, "-HSM")),
	}, nil
}

func public() *cobra.Command {
	c := command.New("public NAME [VERSION]", "Print the public part of an RSA key in PEM, such as a BYOK tool takes",
		"visage key public exchange --vault safe > exchange.pem")
	return doInVault(c, defineVault(c, false), func(ctx context.Context, keys *azkeys.Client, args []string) error {
		found, err := keys.GetKey(ctx, args[0], second(args), nil)
		if err != nil {
			return err
		}
		if len(found.Key.N) == 0 {
			return fmt.Errorf("%s is not an RSA key", args[0])
		}
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(found.Key.N),
			E: int(new(big.Int).SetBytes(found.Key.E).Int64())})
		if err != nil {
			return fmt.Errorf("encode the public key: %w", err)
		}
		return pem.Encode(command.StreamsOf(c).Out, &pem.Block{Type: "PUBLIC KEY", Bytes: der})
	})
}
