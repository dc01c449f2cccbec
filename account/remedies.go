package account

import (
	"context"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
)

// RemedyKind names the operation of a Remedy.
type RemedyKind string

// The operations that mend a precondition, with the arguments in Remedy that they take besides Resource, Vault and Key.
const (
	RequestAccess           RemedyKind = "request-access"     // Access.Submit, for Region
	ApproveAccess           RemedyKind = "approve-access"     // Access.Approve of Request
	SwitchIdentityOn        RemedyKind = "switch-identity-on" // Update of Resource, with its other identities kept
	UnlockResource          RemedyKind = "unlock-resource"    // Unlock of Resource
	RecoverVault            RemedyKind = "recover-vault"
	SwitchPurgeProtectionOn RemedyKind = "switch-purge-protection-on"
	AllowTrustedServices    RemedyKind = "allow-trusted-services" // to pass the vault's network rules
	GrantAccess             RemedyKind = "grant-access"           // Permissions or Role, to Principal
	CreateKey               RemedyKind = "create-key"             // RSA, 2048 bits
	RecoverKey              RemedyKind = "recover-key"
	EnableKey               RemedyKind = "enable-key"           // Version of the key
	ChangeKeyDates          RemedyKind = "change-key-dates"     // of Version of the key: the caller chooses the dates
	AllowKeyOperations      RemedyKind = "allow-key-operations" // of Version of the key: Operations in place of its own
)

// Remedy is one call of an operation that mends a precondition. The caller has the rights for it when the Remedy is
// made; the operation itself checks them again.
type Remedy struct {
	Kind        RemedyKind
	Resource    string             // the account's name
	Vault       string             // the name of a vault of this instance
	Key         string             // the name of a key in Vault
	Version     string             // of Key
	Principal   visage.PrincipalID // to be granted access
	Permissions []string           // for an access policy of Vault; nil where roles decide
	Role        string             // id of the role; empty where access policies decide
	Operations  []string
	Region      string // of an access request; empty: any
	Request     string // the name of an access request
}

// The actions of the management plane on which remedies depend.
const (
	changeAccount = "Microsoft.CognitiveServices/accounts/write"
	unlockAccount = "Microsoft.CognitiveServices/accounts/encryption:unlock/action"
	askForAccess  = "Microsoft.CognitiveServices/accessRequests/write"
)

// ApproveRequests is the action of approving access requests, of which Config.May is asked: it is the operator's.
const ApproveRequests = "Microsoft.CognitiveServices/accessRequests/approve/action"

// addRemedies adds the remedies that the caller has to the preconditions that are not met.
func (c protectionCheck) addRemedies(ctx context.Context) (err error) {
	of := c.rec.account()
	for i := range c.found.Findings {
		at := &c.found.Findings[i]
		if at.State != Unmet {
			continue
		}
		switch at.Precondition {
		case AccessApproved:
			at.Remedies = c.approvals(of)
		case IdentityOn:
			if at.Refusal.Code == "IdentityRequired" && c.a.may(c.by, changeAccount, of) {
				at.Remedies = []Remedy{{Kind: SwitchIdentityOn, Resource: of.Name}}
			}
		case custody.PresentKeyAnswers:
			if c.now.Condition == custody.Locked && c.a.may(c.by, unlockAccount, of) {
				at.Remedies = []Remedy{{Kind: UnlockResource, Resource: of.Name}}
			}
		default:
			if c.found.Key == (visage.KeyRef{}) {
				continue
			}
			if at.Remedies, err = c.a.vaults().Remedies(ctx, c.by, of, at.Precondition, c.found.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// approvals returns the remedies for an account without an approval: to approve a request for its location or, if there
// is none, to ask.
func (c protectionCheck) approvals(of Account) []Remedy {
	var waiting []string
	for _, r := range c.a.index.Now().requests {
		open := r.State == RequestSubmitted || r.State == RequestQueued
		if open && (r.Asked.Region == "" || visage.SameLocation(r.Asked.Region, of.Location)) {
			waiting = append(waiting, r.Name)
		}
	}
	slices.SortFunc(waiting, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	var all []Remedy
	if len(waiting) == 0 && c.a.may(c.by, askForAccess, Account{}) {
		all = append(all, Remedy{Kind: RequestAccess, Resource: of.Name, Region: of.Location})
	}
	for _, name := range waiting {
		if c.a.may(c.by, ApproveRequests, Account{}) {
			all = append(all, Remedy{Kind: ApproveAccess, Resource: of.Name, Request: name})
		}
	}
	return all
}

// may reports whether the roles of a caller allow an action on an account, or on the subscription.
func (a *Accounts) may(by visage.Caller, action string, on Account) bool {
	return a.cfg.May != nil && a.cfg.May(by, action, on)
}
