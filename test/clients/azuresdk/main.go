// Command azuresdk sets itself up from the metadata host, signs in, and walks through the management plane, with the
// library that Terraform's azurerm speaks through. The environment is Terraform's: ARM_METADATA_HOSTNAME,
// ARM_TENANT_ID, ARM_CLIENT_ID, ARM_CLIENT_SECRET, ARM_SUBSCRIPTION_ID.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-azure-sdk/sdk/auth"
	"github.com/hashicorp/go-azure-sdk/sdk/client"
	"github.com/hashicorp/go-azure-sdk/sdk/client/resourcemanager"
	"github.com/hashicorp/go-azure-sdk/sdk/environments"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, time.Minute) // the library asks for a deadline
	defer done()
	env, err := environments.FromEndpoint(ctx, "https://"+os.Getenv("ARM_METADATA_HOSTNAME"))
	if err != nil {
		return fmt.Errorf("read metadata: %w", err)
	}
	if env.IsAzureStack() {
		return errors.New("the library takes the instance for another product, which Terraform does not work with")
	}
	for _, of := range []environments.Api{env.ResourceManager, env.KeyVault, env.MicrosoftGraph} {
		authorizer, err := authorizer(ctx, *env, of)
		if err == nil {
			_, err = authorizer.Token(ctx, nil)
		}
		if err != nil {
			return fmt.Errorf("get a token for %s: %w", of.Name(), err)
		}
	}
	return manage(ctx, *env)
}

func authorizer(ctx context.Context, env environments.Environment, of environments.Api) (auth.Authorizer, error) {
	return auth.NewAuthorizerFromCredentials(ctx, auth.Credentials{
		Environment: env, TenantID: os.Getenv("ARM_TENANT_ID"), ClientID: os.Getenv("ARM_CLIENT_ID"),
		ClientSecret:                          os.Getenv("ARM_CLIENT_SECRET"),
		EnableAuthenticatingUsingClientSecret: true,
	}, of)
}

// manage reads what Terraform reads before it makes anything.
func manage(ctx context.Context, env environments.Environment) error {
	manager, err := resourcemanager.NewClient(env.ResourceManager, "resources", "2022-09-01")
	if err != nil {
		return fmt.Errorf("make a client of the management plane: %w", err)
	}
	if manager.Client.Authorizer, err = authorizer(ctx, env, env.ResourceManager); err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	subscription := "/subscriptions/" + os.Getenv("ARM_SUBSCRIPTION_ID")
	for _, path := range []string{subscription, subscription + "/resourceGroups/default", subscription + "/providers",
		subscription + "/resources"} {
		req, err := manager.NewRequest(ctx, client.RequestOptions{
			ContentType: "application/json", ExpectedStatusCodes: []int{http.StatusOK}, HttpMethod: http.MethodGet,
			Path: path,
		})
		if err != nil {
			return fmt.Errorf("ask for %s: %w", path, err)
		}
		var answer map[string]any
		response, err := req.Execute(ctx)
		if err == nil {
			err = response.Unmarshal(&answer)
		}
		if err != nil {
			return fmt.Errorf("get %s: %w", path, err)
		}
		if len(answer) == 0 {
			return fmt.Errorf("get %s: the answer is empty", path)
		}
		fmt.Println("got", path)
	}
	return nil
}
