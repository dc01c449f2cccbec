package keyvault

import (
	"context"

	"github.com/visage-face/visage"
)

// Needs is the permission that an operation asks for; empty for one that does not exist.
func (o Operation) Needs() Permission { return uses[o].need }

// changes names the operations that change keys, by the permission that they need, as the audit does.
var changes = map[Permission]string{
	MayCreate: "KeyCreate", MayImport: "KeyImport", MayUpdate: "KeyUpdate", MayRestore: "KeyRestore",
	MaySetRotationPolicy: "KeyRotationPolicySet", MayRotate: "KeyRotate", MayBackup: "KeyBackup",
	MayDelete: "KeyDelete", MayRecover: "KeyRecover", MayPurge: "KeyPurge",
	MayRelease: "KeyRelease",
}

// Admit refuses who lacks a permission in a vault before what they send has been read, as the operation itself would,
// and records it like that. What it lets pass is asked again by the operation. Refusals: Forbidden, VaultNotFound.
func (s *Service) Admit(ctx context.Context, who visage.Caller, ref Ref, need Permission) error {
	_, err := s.enter(ctx, who, ref.Vault, need)
	if !isRefusal(err) {
		return err
	}
	e := event{Operation: changes[need], Vault: ref.Vault, Who: storable(who)}
	for _, u := range uses {
		if u.need == need {
			e.Operation = u.event
		}
	}
	if ref.Name != "" {
		e.KeyID = s.KeyID(ref)
	}
	return s.audited(ctx, e, func(*event) error { return err })
}

// PermitsIn is Permits for a vault that was just read.
func (s *Service) PermitsIn(ctx context.Context, who visage.Caller, vault Vault, need Permission) error {
	return s.authorise(ctx, who, vault, need)
}

// Permits refuses a caller that lacks a permission in a vault, as an operation would. It does nothing else, so nothing
// is recorded. Refusals: Forbidden with the inner code AccessDenied, ForbiddenByRbac, ForbiddenByFirewall or
// ForbiddenByConnection; VaultNotFound.
func (s *Service) Permits(ctx context.Context, who visage.Caller, vault string, need Permission) error {
	_, err := s.enter(ctx, who, vault, need)
	return err
}
