package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	ids "github.com/visage-face/visage/identity"
)

// servicePrincipal is an identity as the management plane writes it.
type servicePrincipal struct {
	ObjectID string `json:"objectId"`
	AppID    string `json:"appId"`
	TenantID string `json:"tenantId"`
	Name     string `json:"displayName"`
	Kind     string `json:"kind"`
	Resource string `json:"resourceId,omitempty"`
	Created  string `json:"createdDateTime"`
	Secrets  []struct {
		KeyID   string `json:"keyId"`
		Created string `json:"startDateTime"`
		Expires string `json:"endDateTime"`
	} `json:"passwordCredentials"`
	Password string `json:"password,omitempty"` // told once, when it was made
}

// roleAssignment is who has which role where.
type roleAssignment struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		Role      string `json:"roleDefinitionId"`
		Principal string `json:"principalId"`
		Scope     string `json:"scope"`
		Created   string `json:"createdOn"`
	} `json:"properties"`
}

const principals = "/providers/Visage.Identity/servicePrincipals"

// principal finds an identity by its object id, its application id or its name.
func (c *client) principal(ctx context.Context, said string) (servicePrincipal, error) {
	all, err := c.principals(ctx)
	if err != nil {
		return servicePrincipal{}, err
	}
	var found []servicePrincipal
	for _, p := range all {
		if strings.EqualFold(said, p.ObjectID) || strings.EqualFold(said, p.AppID) || said == p.Name {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return servicePrincipal{}, hinted(fmt.Errorf("there is no identity %q", said),
			"\"visage identity list\" shows the identities there are")
	case 1:
		return found[0], nil
	}
	return servicePrincipal{}, hinted(fmt.Errorf("%d identities are called %q", len(found), said),
		"name the one that is meant by its object id")
}

func (c *client) principals(ctx context.Context) ([]servicePrincipal, error) {
	var all struct {
		Value []servicePrincipal `json:"value"`
	}
	err := c.arm(ctx, http.MethodGet, principals, nil, &all)
	return all.Value, err
}

func identityCreateCommand() command {
	days := 0
	return resourceCommand(command{
		name: "identity create", args: "NAME",
		summary: "Make an application with a secret, which is shown this one time.",
		example: "visage identity create shop-app",
	}, 1, func(fs *flag.FlagSet) {
		fs.IntVar(&days, "days", 365, "life of the secret, at most 730; 0: as long as the application (default: 365)")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		var made servicePrincipal
		err := c.arm(ctx, http.MethodPost, principals,
			map[string]any{"displayName": args[0], "passwordLifetimeDays": days}, &made)
		return []servicePrincipal{made}, err
	}, printPrincipals)
}

func identityListCommand() command {
	return resourceCommand(command{
		name: "identity list", summary: "List identities: applications, and those of resources.",
		example: "visage identity list",
	}, 0, nil, func(ctx context.Context, c *client, _ []string) (any, error) { return c.principals(ctx) },
		printPrincipals)
}

func identityShowCommand() command {
	return resourceCommand(command{
		name: "identity show", args: "NAME|ID", summary: "Show one identity.", example: "visage identity show shop-app",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		p, err := c.principal(ctx, args[0])
		return []servicePrincipal{p}, err
	}, printPrincipals)
}

func identityDeleteCommand() command {
	return resourceCommand(command{
		name: "identity delete", args: "NAME|ID",
		summary: "Remove an application with its roles. Its tokens prove nothing any more.",
		example: "visage identity delete shop-app",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		p, err := c.principal(ctx, args[0])
		if err != nil {
			return nil, err
		}
		return nil, c.arm(ctx, http.MethodDelete, principals+"/"+url.PathEscape(p.ObjectID), nil, nil)
	}, nil)
}

func identityResetCommand() command {
	days, keep := 0, false
	return resourceCommand(command{
		name: "identity reset", args: "NAME|ID",
		summary: "Make a new secret for an application, shown this one time, and end the others.",
		example: "visage identity reset shop-app",
	}, 1, func(fs *flag.FlagSet) {
		fs.IntVar(&days, "days", 365, "life of the secret, at most 730; 0: as long as the application (default: 365)")
		fs.BoolVar(&keep, "append", false, "keep the other secrets")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		p, err := c.principal(ctx, args[0])
		if err != nil {
			return nil, err
		}
		var made struct {
			Text string `json:"secretText"`
		}
		at := principals + "/" + url.PathEscape(p.ObjectID)
		if err := c.arm(ctx, http.MethodPost, at+"/addPassword", map[string]any{"passwordLifetimeDays": days},
			&made); err != nil {
			return nil, err
		}
		for _, old := range p.Secrets {
			if keep {
				break
			}
			if err := c.arm(ctx, http.MethodPost, at+"/removePassword", map[string]string{"keyId": old.KeyID},
				nil); err != nil {
				return nil, fmt.Errorf("the new secret works; an older one could not be ended: %w", err)
			}
		}
		p, err = c.principal(ctx, p.ObjectID)
		p.Password = made.Text
		return []servicePrincipal{p}, err
	}, printPrincipals)
}

func identityTrustCommand() command {
	issuer, subject := "", ""
	return resourceCommand(command{
		name: "identity trust", args: "NAME|ID",
		summary: "Say who, vouched for by an issuer that --trust-issuer names, is an application; without --subject: " +
			"nobody.",
		example: "visage identity trust shop-app --issuer https://login.example --subject " +
			"system:serviceaccount:shop:web",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&issuer, "issuer", "", "the issuer's address, as its tokens have it")
		fs.StringVar(&subject, "subject", "", "the claim \"sub\" of its tokens")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		p, err := c.principal(ctx, args[0])
		if err != nil {
			return nil, err
		}
		list := []map[string]string{}
		if subject != "" {
			list = append(list, map[string]string{"issuer": issuer, "subject": subject})
		}
		var now servicePrincipal
		err = c.arm(ctx, http.MethodPut, principals+"/"+url.PathEscape(p.ObjectID)+"/federatedSubjects",
			map[string]any{"value": list}, &now)
		return []servicePrincipal{now}, err
	}, printPrincipals)
}

func printPrincipals(w io.Writer, answer any) {
	fmt.Fprint(w, "NAME\tKIND\tOBJECT ID\tAPP ID\tSECRETS\tCREATED\n")
	password := ""
	for _, p := range answer.([]servicePrincipal) {
		created, _, _ := strings.Cut(p.Created, ".")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", p.Name, p.Kind, p.ObjectID, p.AppID, len(p.Secrets), created)
		if p.Password != "" {
			password = p.Password
		}
	}
	if password != "" {
		fmt.Fprintf(w, "\nsecret, not shown again: %s\n", password)
	}
}

// scopeOptions say where a role is given.
type scopeOptions struct{ scope, resource, vault string }

func (o *scopeOptions) define(fs *flag.FlagSet) {
	fs.StringVar(&o.scope, "scope", "", "management path (default: the subscription)")
	fs.StringVar(&o.resource, "resource", "", "Face resource, by its name, in place of --scope")
	fs.StringVar(&o.vault, "vault", "", "key vault, by its name, in place of --scope")
}

// path returns the scope below the subscription.
func (o *scopeOptions) path(c *client) (string, error) {
	group := "/resourceGroups/" + c.operator.ResourceGroup
	switch {
	case o.resource != "" && o.scope == "" && o.vault == "":
		return group + "/providers/Microsoft.CognitiveServices/accounts/" + url.PathEscape(o.resource), nil
	case o.vault != "" && o.scope == "" && o.resource == "":
		return group + "/providers/Microsoft.KeyVault/vaults/" + url.PathEscape(o.vault), nil
	case o.resource != "" || o.vault != "":
		return "", &failure{err: errors.New("one of --scope, --resource and --vault says where"), code: exitUsage,
			hint: "\"visage help identity assign\" shows how it is called"}
	}
	below, ok := strings.CutPrefix(o.scope, "/subscriptions/"+c.operator.SubscriptionID)
	if o.scope != "" && !ok {
		return "", &failure{err: fmt.Errorf("--scope must begin with /subscriptions/%s", c.operator.SubscriptionID),
			code: exitUsage, hint: "leave it out for the whole subscription"}
	}
	return below, nil
}

// newUUID makes a random UUID (RFC 9562 §5.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the process instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

const roleAssignments = "/providers/Microsoft.Authorization/roleAssignments"

func identityAssignCommand() command {
	var where scopeOptions
	role := ""
	return resourceCommand(command{
		name: "identity assign", args: "NAME|ID", summary: "Give an identity a role.",
		example: "visage identity assign shop-app --role \"Cognitive Services User\" --resource shop",
	}, 1, func(fs *flag.FlagSet) {
		where.define(fs)
		fs.StringVar(&role, "role", "", "role, by its name or id: "+strings.Join(roleNames(), ", "))
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		id, err := roleCalled(role)
		if err != nil {
			return nil, err
		}
		at, err := where.path(c)
		if err != nil {
			return nil, err
		}
		p, err := c.principal(ctx, args[0])
		if err != nil {
			return nil, err
		}
		body := map[string]any{"properties": map[string]string{"principalId": p.ObjectID, "roleDefinitionId": id}}
		var made roleAssignment
		err = c.arm(ctx, http.MethodPut, at+roleAssignments+"/"+newUUID(), body, &made)
		return []roleAssignment{made}, err
	}, printAssignments)
}

func roleNames() (names []string) {
	for _, r := range ids.Roles() {
		names = append(names, r.Name)
	}
	return names
}

func roleCalled(said string) (id string, err error) {
	for _, r := range ids.Roles() {
		if strings.EqualFold(said, r.Name) || strings.EqualFold(said, r.ID) {
			return r.ID, nil
		}
	}
	return "", &failure{err: fmt.Errorf("--role is %q; allowed: %s", said, strings.Join(roleNames(), ", ")),
		code: exitUsage,
		hint: "\"visage help identity assign\" shows how it is called"}
}

func identityRolesCommand() command {
	var where scopeOptions
	return resourceCommand(command{
		name: "identity roles", args: "[NAME|ID]",
		summary: "List who has which role, where, or the roles of one identity.",
		example: "visage identity roles shop-app",
	}, 1, where.define, func(ctx context.Context, c *client, args []string) (any, error) {
		at, err := where.path(c)
		if err != nil {
			return nil, err
		}
		var all struct {
			Value []roleAssignment `json:"value"`
		}
		if err := c.arm(ctx, http.MethodGet, at+roleAssignments, nil, &all); err != nil || len(args) == 0 {
			return all.Value, err
		}
		p, err := c.principal(ctx, args[0])
		if err != nil {
			return nil, err
		}
		its := []roleAssignment{}
		for _, a := range all.Value {
			if a.Properties.Principal == p.ObjectID {
				its = append(its, a)
			}
		}
		return its, nil
	}, printAssignments)
}

func identityUnassignCommand() command {
	return resourceCommand(command{
		name: "identity unassign", args: "ASSIGNMENT",
		summary: "Take a role back. \"visage identity roles\" shows the ids of assignments.",
		example: "visage identity unassign 3f0c…",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		var all struct {
			Value []roleAssignment `json:"value"`
		}
		if err := c.arm(ctx, http.MethodGet, roleAssignments, nil, &all); err != nil {
			return nil, err
		}
		for _, a := range all.Value {
			if strings.EqualFold(a.Name, args[0]) {
				return nil, c.arm(ctx, http.MethodDelete,
					strings.TrimPrefix(strings.ToLower(a.ID),
						"/subscriptions/"+strings.ToLower(c.operator.SubscriptionID)), nil, nil)
			}
		}
		return nil, hinted(fmt.Errorf("there is no role assignment %q", args[0]),
			"\"visage identity roles\" shows those there are")
	}, nil)
}

func printAssignments(w io.Writer, answer any) {
	fmt.Fprint(w, "ASSIGNMENT\tIDENTITY\tROLE\tSCOPE\n")
	for _, a := range answer.([]roleAssignment) {
		role := a.Properties.Role[strings.LastIndex(a.Properties.Role, "/")+1:]
		for _, r := range ids.Roles() {
			if r.ID == role {
				role = r.Name
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.Name, a.Properties.Principal, role, a.Properties.Scope)
	}
}
