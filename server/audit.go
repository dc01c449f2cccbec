package server

import (
	"context"
	"crypto/fips140"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
)

// openAudit opens the audit log, and runs it until opened closes it. Its entries tell when the instance started and
// stopped.
func (s *Server) openAudit(ctx context.Context, store *sealed.Store, opened *closers) (*audit.Log, *audit.Runs, error) {
	l, err := audit.Open(ctx, audit.Config{Store: store, Logger: s.log})
	if err != nil {
		return nil, nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives all that it tells of
	ended := make(chan error, 1)
	go func() { ended <- l.Run(running) }()
	runs := audit.NewRuns(l)
	counting, stopRuns := context.WithCancel(running)
	counted := make(chan error, 1)
	go func() { counted <- runs.Run(counting) }()
	s.audit.Store(l)
	opened.add("audit log", func() error {
		s.audit.Store(nil)
		stopRuns()
		err := <-counted
		err = errors.Join(err, l.Append(running, audit.Event{Kind: audit.InstanceStop, Outcome: audit.Done}))
		stop()
		return errors.Join(err, <-ended)
	})
	err = l.Append(ctx, audit.Event{Kind: audit.InstanceStart, Outcome: audit.Done, Details: map[audit.Detail]string{
		audit.DetailBuild: build(), audit.DetailRuntime: runtime.Version(), audit.DetailFIPS: fipsMode(),
	}})
	if err == nil {
		err = auditMigrations(ctx, store, l)
	}
	return l, runs, err
}

// auditMigrations writes down what brought the store to its format. The store was migrated before the log could open,
// by this program or by an offline command, and remembers it until now.
func auditMigrations(ctx context.Context, store *sealed.Store, l *audit.Log) error {
	return store.TellMigrations(ctx, func(m sealed.Migration) error {
		return l.Append(
			ctx, audit.Event{Kind: audit.StoreMigrate, Outcome: audit.Done, Details: map[audit.Detail]string{
				audit.DetailOperation: m.Name,
				audit.DetailBefore:    strconv.FormatUint(uint64(m.Number-1), 10),
				audit.DetailAfter:     strconv.FormatUint(uint64(m.Number), 10),
			}})
	})
}

// build names what the program was built from.
func build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}

func fipsMode() string {
	switch {
	case fips140.Enforced():
		return "enforced"
	case fips140.Enabled():
		return "on"
	}
	return "off"
}

// auditStore writes what the sealed store reports of its keys and of damage. It may be called within a transaction of
// the store, and so must not wait for one.
func (s *Server) auditStore(e sealed.Event) {
	l := s.audit.Load()
	if l == nil || e.Space == sealed.Operator {
		return // the operator's space is open as long as the instance runs
	}
	event := audit.Event{Kind: audit.StoreEvent, Outcome: audit.Done, Resource: visage.ResourceID(e.Space)}
	switch e.Kind {
	case sealed.SpaceOpened:
		event.Kind = audit.KeyLoad
	case sealed.SpaceWiped:
		event.Kind = audit.KeyWipe
	case sealed.Corrupt:
		event.Outcome = audit.Failed
		fallthrough
	default:
		event.Details = map[audit.Detail]string{audit.DetailOperation: strings.ReplaceAll(string(e.Kind), " ", "-")}
	}
	if err := l.Note(context.Background(), event); err != nil {
		s.log.Error("not audited", "kind", string(e.Kind), "err", err)
	}
}

// accountAudit writes what happens to Face resources.
type accountAudit struct{ log *audit.Log }

// Record implements account.Auditor.
func (a accountAudit) Record(ctx context.Context, e account.Event) error {
	event := audit.Event{
		Kind: map[account.Operation]audit.Kind{
			account.Created: audit.ResourceCreate, account.Updated: audit.ResourceUpdate,
			account.Deleted:     audit.ResourceDelete,
			account.Regenerated: audit.ResourceRegenerateKey, account.KeysListed: audit.ResourceListKeys,
			account.Recovered: audit.ResourceRecover, account.Purged: audit.ResourcePurge,
			account.Locked: audit.OperatorAction, account.Unlocked: audit.OperatorAction,
			account.PolicySet: audit.OperatorAction,
			account.Submitted: audit.RequestSubmit, account.Approved: audit.RequestApprove,
			account.Rejected: audit.RequestReject, account.Withdrawn: audit.RequestWithdraw,
			account.CapacitySet: audit.RequestCapacity,
		}[e.Operation],
		Outcome: audit.Done, Resource: e.Resource.ID, RequestID: e.By.RequestID, Details: map[audit.Detail]string{},
	}
	if e.By.Principal != (visage.Principal{}) {
		event.Actor = audit.ActorOf(e.By.Principal)
	}
	if e.Resource.Tier != "" {
		event.Details[audit.DetailTier] = string(e.Resource.Tier)
	}
	if e.Key != "" {
		event.Details[audit.DetailKeyName] = string(e.Key)
	}
	if e.Under != (visage.KeyRef{}) {
		event.KeyID, event.KeyVersion = e.Under.Unversioned(), e.Under.Version
	}
	if event.Kind == audit.OperatorAction {
		event.Details[audit.DetailOperation] = string(e.Operation)
	}
	if e.Request != "" {
		event.Details[audit.DetailSubject] = e.Request
	}
	if e.State != "" {
		event.Details[audit.DetailState] = strings.ToLower(string(e.State))
	}
	if refusal, ok := errors.AsType[*visage.Refusal](e.Err); ok {
		event.Outcome, event.Code = audit.Refused, refusal.Code
	} else if e.Err != nil {
		event.Outcome = audit.Failed
	}
	return a.log.Append(ctx, event)
}

// vaultAudit writes what happens in the built-in vault.
type vaultAudit struct {
	log      *audit.Log
	runs     *audit.Runs
	instance instanceRecord
}

// turnedAway names the refusals that any identity can cause without end, one that has no right in any vault included.
var turnedAway = map[string]bool{
	"AccessDenied": true, "ForbiddenByRbac": true, "ForbiddenByConnection": true, "ForbiddenByFirewall": true,
	"VaultNotFound": true,
}

// Record implements keyvault.Auditor.
func (v vaultAudit) Record(ctx context.Context, e keyvault.Event) error {
	event := audit.Event{
		Time: e.Time, Kind: audit.VaultOperation, Outcome: audit.Done, RequestID: e.Who.RequestID,
		Details: map[audit.Detail]string{audit.DetailOperation: e.Operation, audit.DetailVault: e.Vault},
	}
	event.KeyID, event.KeyVersion = cutVersion(e.KeyID)
	switch e.Who.ObjectID {
	case "":
	case v.instance.ClientID:
		event.Actor = audit.Actor{Kind: audit.OperatorActor}
	default:
		event.Actor = audit.Actor{Kind: audit.Identity, ID: e.Who.ObjectID}
	}
	switch e.Outcome {
	case keyvault.Success:
	case "Error":
		event.Outcome = audit.Failed
	default:
		event.Outcome, event.Code = audit.Refused, e.Outcome
	}
	if len(e.Access) > 0 {
		event.Details[audit.DetailChange] = e.Change
		if e.Change == "" { // it was refused
			event.Details[audit.DetailChange] = visage.NewUUID().String()
		}
	}
	if turnedAway[event.Code] && len(e.Access) == 0 {
		return v.runs.Note(ctx, event)
	}
	for _, a := range e.Access { // they are written with the event, and before it
		change := event
		change.Kind, change.Details = audit.VaultAccess, maps.Clone(event.Details)
		change.Details[audit.DetailScope] = v.instance.vaultPath(keyvault.Vault{Group: defaultGroup, Name: e.Vault})
		note(change.Details, map[audit.Detail]string{audit.DetailSubject: a.ObjectID, audit.DetailClient: a.AppID})
		beforeAndAfter(change.Details, a.Before, a.After)
		if err := v.log.Note(ctx, change); err != nil {
			return err
		}
	}
	return v.log.Append(ctx, event)
}

// cutVersion parts the identifier of a key, https://HOST/keys/NAME[/VERSION], from the version.
func cutVersion(id string) (key, version string) {
	_, path, found := strings.Cut(id, "/keys/")
	if !found {
		return id, ""
	}
	if _, version, found = strings.Cut(path, "/"); !found {
		return id, ""
	}
	return strings.TrimSuffix(id, "/"+version), version
}

// faceAudit writes down what was erased, and with which key's end.
type faceAudit struct{ log *audit.Log }

// Decided implements face.Auditor.
func (a faceAudit) Decided(ctx context.Context, d face.Decision) error {
	event := audit.Event{
		Kind: map[face.Decided]audit.Kind{
			face.RetentionSet: audit.RetentionSet, face.HoldPlaced: audit.HoldPlace,
			face.HoldReleased: audit.HoldRelease,
		}[d.What],
		Outcome: audit.Done, Resource: d.Resource, RequestID: d.By.RequestID, Details: map[audit.Detail]string{},
	}
	if d.By.Principal != (visage.Principal{}) {
		event.Actor = audit.ActorOf(d.By.Principal)
	}
	if d.Ref != (face.Ref{}) {
		event.Details[audit.DetailGroup] = d.Ref.Kind.String() + "/" + d.Ref.ID
	}
	if d.Item != "" {
		event.Details[audit.DetailPerson] = d.Item
	}
	if d.What == face.RetentionSet {
		event.Details[audit.DetailOperation] = "removed"
		if r := d.Retention; r != nil {
			event.Details[audit.DetailOperation] = strconv.Itoa(r.Days) + " days since " + string(r.Since)
		}
	}
	return a.log.Append(ctx, event)
}

// Erased implements face.Auditor.
func (a faceAudit) Erased(ctx context.Context, e face.Erasure) error {
	event := audit.Event{
		Kind: map[face.Erased]audit.Kind{
			face.ErasedPerson: audit.PersonDelete, face.ErasedFace: audit.FaceDelete,
			face.ErasedGroup:    audit.GroupDelete,
			face.ErasedContents: audit.GroupDelete, face.ErasedTemplates: audit.GroupDelete,
		}[e.What],
		Outcome: audit.Done, Resource: e.Resource, RequestID: e.By.RequestID, Details: map[audit.Detail]string{},
	}
	if e.By.Principal != (visage.Principal{}) {
		event.Actor = audit.ActorOf(e.By.Principal)
	}
	for detail, text := range map[audit.Detail]string{audit.DetailPerson: e.Person, audit.DetailFace: e.Face} {
		if text != "" {
			event.Details[detail] = text
		}
	}
	if e.Ref != (face.Ref{}) {
		event.Details[audit.DetailGroup] = e.Ref.Kind.String() + "/" + e.Ref.ID
	}
	if e.What == face.ErasedContents || e.What == face.ErasedTemplates {
		event.Details[audit.DetailOperation] = string(e.What)
	}
	if e.Receipt.Epoch != 0 {
		records, sums := 0, sha256.New()
		for _, c := range e.Receipt.Erased {
			records += c.Count
			sums.Write(c.Hash[:])
		}
		event.Details[audit.DetailGeneration] = strconv.FormatUint(uint64(e.Receipt.Generation), 10)
		event.Details[audit.DetailEpoch] = strconv.FormatUint(uint64(e.Receipt.Epoch), 10)
		event.Details[audit.DetailCount] = strconv.Itoa(records)
		event.Details[audit.DetailGrade] = string(e.Receipt.Grade)
		event.Details[audit.DetailErased] = hex.EncodeToString(sums.Sum(nil))
	}
	return a.log.Append(ctx, event)
}
