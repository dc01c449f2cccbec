package awskms

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/visage-face/visage/internal/secretfile"
)

// Login is how a source gets its credentials. Every use reads its secrets again, so that they can be replaced. It may
// be used from many goroutines.
type Login struct {
	get func(ctx context.Context, s *Source) (aws.Credentials, error)
	// a refusal of the credentials says that the principal is gone: they were not just issued by AWS itself
	lasting bool
}

// sessionLife is how long the credentials of a role live: the shortest that STS grants. They are replaced long before.
const sessionLife = 15 * time.Minute

// WebIdentity logs in as a role (see RoleARN) with tokens of an OpenID issuer, such as this service for the identities
// of its resources: no secret is stored anywhere. session names the login in the logs of AWS, by 2 to 64 letters,
// digits and +=,.@-. get returns a token for the audience that the role expects; an error of it that wraps
// keysource.ErrDenied means that the principal certainly no longer exists. The credentials can use the one key of the
// source and nothing else, whatever the role may.
func WebIdentity(
	role, session string, get func(ctx context.Context) (token string, expires time.Time, err error),
) Login {
	return Login{get: func(ctx context.Context, s *Source) (aws.Credentials, error) {
		token, _, err := get(ctx)
		if err != nil {
			return aws.Credentials{}, &loginError{fmt.Errorf("get a token to log in with: %w", err)}
		}
		policy, err := s.sessionPolicy()
		if err != nil {
			return aws.Credentials{}, &loginError{err}
		}
		var answered struct {
			XMLName     xml.Name `xml:"AssumeRoleWithWebIdentityResponse"`
			Credentials struct {
				AccessKeyID     string `xml:"AccessKeyId"`
				SecretAccessKey string
				SessionToken    string
			} `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
		}
		err = s.servers.logIn(ctx, url.Values{
			"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role},
			"RoleSessionName": {session}, "WebIdentityToken": {token}, "Policy": {policy},
			"DurationSeconds": {strconv.Itoa(int(sessionLife / time.Second))},
		}, &answered)
		if err != nil {
			return aws.Credentials{}, &stsError{err}
		}
		c := answered.Credentials
		if c.AccessKeyID == "" || c.SecretAccessKey == "" || c.SessionToken == "" {
			return aws.Credentials{}, errors.New("the answer to the login holds no credentials")
		}
		return aws.Credentials{
			AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken,
		}, nil
	}}
}

// Static uses the access key of a user, whose secret is in the first line of a file.
func Static(accessKeyID, secretFile string) Login {
	return Login{lasting: true, get: func(context.Context, *Source) (aws.Credentials, error) {
		secret, err := secretfile.FirstLine(secretFile)
		if err != nil {
			return aws.Credentials{}, &loginError{fmt.Errorf("read the secret of a key store: %w", err)}
		}
		return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: strings.TrimSpace(secret)}, nil
	}}
}

// sessionPolicy narrows a login to what a source does with its key.
func (s *Source) sessionPolicy() (string, error) {
	type statement struct{ Effect, Action, Resource any }
	raw, err := json.Marshal(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{{"Allow", []string{"kms:Encrypt", "kms:Decrypt", "kms:DescribeKey"}, s.arn}}})
	if err != nil {
		return "", fmt.Errorf("encode the policy of the session: %w", err)
	}
	return string(raw), nil
}
