package console

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/console/internal/chart"
	"github.com/visage-face/visage/custody"
)

func (c *Console) operationsRoutes() []route {
	backup := send(prefix+"/operations/backup", freshly(operator), c.downloadBackup)
	keyring := send(prefix+"/operations/keyring", freshly(operator), c.downloadKeyring)
	backup.time, keyring.time = backupTime, backupTime
	return []route{page(prefix+"/operations", operator, c.operations), backup, keyring}
}

// backupTime limits the download of a backup, as the management plane does.
const backupTime = 24 * time.Hour

// Instance is the running instance as operators see it.
type Instance interface {
	// State tells how it is now.
	State() State
	// WriteBackup and WriteKeyring copy all data and all keys of the store, and record it.
	WriteBackup(ctx context.Context, by visage.Caller, w io.Writer) error
	WriteKeyring(ctx context.Context, by visage.Caller, w io.Writer) error
}

// State is how an instance is at a moment.
type State struct {
	Version      string // of the program; empty: unknown
	Runtime      string // of Go
	Started      time.Time
	Module       string // of cryptography
	FIPS         bool   // the module works in its approved mode
	Enforced     bool   // what is not approved is refused
	Format       uint32 // of the store
	Volumes      []Volume
	Packs        []Pack
	Root         RootKey
	Certificates []Certificate // the first to end first
	AnchorsApart bool          // anchors lie outside of the data directory
	Keys         KeyPlace
}

// KeyPlace is where the epoch keys lie.
type KeyPlace struct {
	Name  string // for people
	Grade string // of erasures
	Why   string // what keeps the grade from being higher, if that can be changed; empty: nothing
	// Refused says that the place is not the instance's any more, so that nothing is erased.
	Refused bool
	Unswept bool // keys that a crash has left could not be destroyed yet
}

// Certificate is a certificate that the instance serves, trusts or was shown.
type Certificate struct {
	// Use is "file": of cert-file; "authority": the own authority; "issuer-ca": an authority of issuer-ca-file;
	// "issuer": an external issuer has shown it since the start.
	Use  string
	Name string // of its subject, or the host of the issuer
	Ends time.Time
}

// Volume is what is left of a volume, in bytes.
type Volume struct {
	Holds                string // "data", "epoch keys" or "anchors"
	Free, Total, Reserve uint64
	Full                 bool // new data is refused
}

// Pack is a model pack.
type Pack struct {
	Name   string
	Models []string // the recognition models that it serves; none: stored templates only
	Open   bool
	Pairs  int          // of strangers, that its calibration was measured on; 0: it is not calibrated
	Curve  []CurvePoint // of its calibration, may be empty
}

// CurvePoint says which fraction of pairs of strangers has a confidence or more: of the worst group that was measured,
// and of all.
type CurvePoint struct{ Confidence, Worst, All float64 }

// What makes operators act, and when.
const (
	oldCopy     = 30 * 24 * time.Hour // of the keyring
	oldBackup   = 7 * 24 * time.Hour
	endsSoon    = 30 * 24 * time.Hour // certificates
	mostActions = 500                 // entries of the audit log that are looked through for backups
)

// task is something that a person should do.
type task struct {
	Kind string // "warn" or "bad"
	Text string
	To   string // the page to do it on; empty: none
}

// gradeOf says what erasures reach.
func gradeOf(v *visit, keys KeyPlace) string {
	if keys.Why == "" {
		return keys.Grade
	}
	return v.text("operations.grade.because", keys.Grade, isolated(keys.Why))
}

// alerts lists what needs the operator, and returns when the last copies were taken.
func (c *Console) alerts(v *visit) (all []task, last copies, err error) {
	add := func(kind, to, key string, args ...any) { all = append(all, task{kind, v.text(key, args...), to}) }
	s := c.cfg.Instance.State()
	all = v.rootKeyAlerts(s.Root)
	for _, volume := range s.Volumes {
		if volume.Full {
			add("bad", prefix+"/operations", "operations.alert.full", v.text("operations.holds."+wordOf(volume.Holds)))
		}
	}
	if s.Keys.Refused {
		add("bad", prefix+"/operations", "operations.alert.keyplace")
	}
	if s.Keys.Unswept {
		add("warn", prefix+"/operations", "operations.alert.unswept")
	}
	for _, x := range s.Certificates {
		left := time.Until(x.Ends)
		if left >= endsSoon {
			break
		}
		kind := "warn"
		if left < 0 {
			kind = "bad"
		}
		add(kind, prefix+"/operations", "operations.alert.certificate", max(0, int(left/(24*time.Hour))),
			v.text("operations.certificate."+x.Use), isolated(x.Name))
	}
	if last, err = c.copies(v); err != nil {
		return nil, last, err
	}
	if time.Since(last.keyring) > oldCopy {
		if last.keyring.IsZero() {
			add("warn", prefix+"/operations", "operations.alert.nokeyring")
		} else {
			add("warn", prefix+"/operations", "operations.alert.oldkeyring", v.lang.day(last.keyring))
		}
	}
	if of := last.verifiedBackup; !of.At.IsZero() && !of.Intact {
		add("bad", prefix+"/operations", "operations.alert.damaged.backup", of.Taken)
	}
	if of := last.verifiedKeyring; !of.At.IsZero() && !of.Intact {
		add("bad", prefix+"/operations", "operations.alert.damaged.keyring", of.Taken)
	}
	requests, err := c.cfg.Accounts.Access().Requests(v.Context())
	if err != nil {
		return nil, last, err
	}
	waiting := 0
	for _, r := range requests {
		if r.State == account.RequestSubmitted {
			waiting++
		}
	}
	if waiting > 0 {
		add("warn", prefix+"/requests", "operations.alert.requests", waiting)
	}
	conditions := c.cfg.Conditions()
	for _, condition := range slices.Sorted(maps.Keys(conditions)) {
		n := conditions[condition]
		switch condition {
		case custody.Revoked, custody.Locked, custody.Unavailable:
			if n > 0 {
				add("bad", "", "operations.alert."+string(condition), n)
			}
		case custody.Degraded:
			if n > 0 {
				add("warn", "", "operations.alert.degraded", n)
			}
		}
	}
	return all, last, nil
}

// wordOf makes the end of a message's key of words.
func wordOf(words string) string { return strings.ReplaceAll(words, " ", "-") }

// keyringExport is the operation of an entry of the audit log about a copy of the keyring.
const keyringExport = "keyring-export"

// copies is when copies of data and keys were last taken from the running server, and how their last verifications
// ended.
type copies struct {
	backup, keyring                 time.Time
	verifiedBackup, verifiedKeyring verification
}

// verification is the last verification of a copy.
type verification struct {
	At     time.Time // zero: none is known
	Taken  string    // when the copy was taken, in words
	Intact bool
	Badge  badge
	How    string // the command that verifies a copy
}

// copies finds the last copies and their verifications in the audit log.
func (c *Console) copies(v *visit) (last copies, err error) {
	entries, _, err := c.cfg.History.Page(v.Context(), audit.Query{
		Kinds: []audit.Kind{audit.OperatorAction}, Limit: mostActions,
	})
	if err != nil {
		return last, err
	}
	for _, e := range entries {
		switch operation := e.Details[audit.DetailOperation]; {
		case e.Outcome != audit.Done:
		case operation == "backup" && last.backup.IsZero():
			last.backup = e.Time
		case operation == keyringExport && last.keyring.IsZero():
			last.keyring = e.Time
		}
	}
	last.verifiedBackup.How = "visage backup verify ARCHIVE --dir DIRECTORY"
	last.verifiedKeyring.How = "visage keyring verify FILE --dir DIRECTORY"
	entries, _, err = c.cfg.History.Page(v.Context(), audit.Query{
		Kinds: []audit.Kind{audit.BackupVerify}, Outcome: audit.Done, Limit: mostActions,
	})
	for _, e := range slices.Backward(entries) {
		of := &last.verifiedBackup
		if e.Details[audit.DetailOperation] == audit.CopyOfKeyring {
			of = &last.verifiedKeyring
		}
		of.At, of.Intact = e.Time, e.Details[audit.DetailState] == audit.CopyIntact
		of.Badge = badge{"bad", "bad", v.text("operations.verified.damaged")}
		if of.Intact {
			of.Badge = badge{"ok", "ok", v.text("operations.verified.intact")}
		}
		taken, err := time.Parse(time.RFC3339, e.Details[audit.DetailTaken])
		if err != nil {
			return last, fmt.Errorf("read entry %d of the audit log: %w", e.Sequence, err)
		}
		of.Taken = v.lang.day(taken)
	}
	return last, err
}

// operationsData is the page of the instance.
type operationsData struct {
	Alerts     []task
	Facts      []fact
	Crypto     []fact
	Volumes    []volumeRow
	Packs      []packRow
	Root       []fact
	RootKey    string // the page of the root key
	Replicas   string // and that of the processes
	Protectors []protectorRow
	Ends       table[endRow]
	LastBackup time.Time
	LastKeys   time.Time
	OldBackup  bool
	// the last verifications of copies
	VerifiedBackup, VerifiedKeyring verification
	Backup                          *form
	Keyring                         *form
}

type volumeRow struct {
	Name string
	Volume
	Badge badge
}

type packRow struct {
	Pack
	Badge badge
	Curve template.HTML
}

// endRow is a certificate or a key with an end.
type endRow struct {
	What, Name, To string // To is empty without a page of its own
	Ends           time.Time
	Badge          badge
}

func (c *Console) operations(v *visit) (*view, error) {
	s := c.cfg.Instance.State()
	alerts, last, err := c.alerts(v)
	if err != nil {
		return nil, err
	}
	keys, err := c.keysExpiring(v)
	if err != nil {
		return nil, err
	}
	alerts = withoutLink(prefix+"/operations", append(v.keyExpiryAlerts(keys), alerts...))
	yes := func(on bool) string {
		if on {
			return v.text("operations.yes")
		}
		return v.text("operations.no")
	}
	d := operationsData{
		Alerts: alerts,
		Facts: []fact{
			{v.text("operations.version"), cmp.Or(s.Version, v.text("operations.unknown")), false},
			{v.text("operations.runtime"), s.Runtime, false},
			{v.text("operations.started"), v.lang.when(s.Started), false},
			{v.text("operations.format"), v.lang.number(int(s.Format)), false},
			{v.text("operations.anchors"), yes(s.AnchorsApart), false},
			{v.text("operations.keyplace"), isolated(s.Keys.Name), false},
			{v.text("operations.grade"), gradeOf(v, s.Keys), false},
		},
		Crypto: []fact{
			{v.text("operations.cipher"), "AES-256-GCM", false},
			{v.text("operations.module"), s.Module, false},
			{v.text("operations.fips"), yes(s.FIPS), false},
			{v.text("operations.enforced"), yes(s.Enforced), false},
		},
		LastBackup: last.backup, LastKeys: last.keyring, VerifiedBackup: last.verifiedBackup,
		VerifiedKeyring: last.verifiedKeyring,
		OldBackup:       !last.backup.IsZero() && time.Since(last.backup) > oldBackup,
		Backup:          v.button(prefix+"/operations/backup", v.text("operations.backup.take"), "plain"),
		Keyring:         v.button(prefix+"/operations/keyring", v.text("operations.keyring.take"), "plain"),
	}
	for _, x := range s.Volumes {
		row := volumeRow{Name: v.text("operations.holds." + wordOf(x.Holds)), Volume: x,
			Badge: badge{"ok", "ok", v.text("operations.volume.ok")}}
		if x.Full {
			row.Badge = badge{"bad", "bad", v.text("operations.volume.full")}
		}
		d.Volumes = append(d.Volumes, row)
	}
	for _, x := range s.Packs {
		row := packRow{Pack: x, Badge: badge{"ok", "ok", v.text("operations.pack.open")}}
		if !x.Open {
			row.Badge = badge{"bad", "bad", v.text("operations.pack.closed")}
		}
		if len(x.Curve) > 0 {
			row.Curve = v.calibrationCurve(x)
		}
		d.Packs = append(d.Packs, row)
	}
	d.Root, d.RootKey, d.Replicas = v.rootKeyFacts(s.Root), rootKeyPath, replicasPath
	for _, p := range s.Root.Protectors {
		d.Protectors = append(d.Protectors, protectorRow{Protector: p, Badge: v.protectorBadge(p)})
	}
	var ends []endRow
	for _, x := range s.Certificates {
		ends = append(ends, v.endRow(v.text("operations.certificate."+x.Use), x.Name, "", x.Ends))
	}
	for _, k := range keys {
		ends = append(ends, v.endRow(v.text("operations.key"), k.resource, k.page, k.ends))
	}
	slices.SortStableFunc(ends, func(a, b endRow) int { return a.Ends.Compare(b.Ends) })
	d.Ends = tabled(v, prefix+"/operations", ends, "ends", endOrders)
	return v.page("operations", v.text("operations.title"), &d), nil
}

// calibrationCurve draws which fraction of strangers a confidence lets through.
func (v *visit) calibrationCurve(p Pack) template.HTML {
	worst := chart.Points{Name: v.text("operations.curve.worst")}
	all := chart.Points{Name: v.text("operations.curve.all")}
	for _, point := range p.Curve {
		worst.Points = append(worst.Points, chart.Point{X: point.Worst, Y: point.Confidence})
		all.Points = append(all.Points, chart.Point{X: point.All, Y: point.Confidence})
	}
	return chart.Curves(chart.Curve{
		ID: "curve-" + p.Name, Title: v.text("operations.curve.title", p.Name),
		Description: v.text("operations.curve.description"),
		X:           chart.Axis{Label: v.text("operations.curve.x"), Format: v.oneIn},
		Y:           chart.Axis{Label: v.text("operations.curve.y"), Format: v.lang.short},
		Series:      []chart.Points{worst, all},
	})
}

// oneIn writes a rate as "1 in 1,000".
func (v *visit) oneIn(rate float64) string {
	if rate <= 0 || rate > 1 {
		return ""
	}
	return v.text("operations.onein", int(1/rate+0.5))
}

func (c *Console) downloadBackup(v *visit) (*view, error) {
	return v.copyOf("visage-backup", c.cfg.Instance.WriteBackup), nil
}

func (c *Console) downloadKeyring(v *visit) (*view, error) {
	return v.copyOf("visage-keyring", c.cfg.Instance.WriteKeyring), nil
}

// copyOf downloads what write writes, under a name with the time.
func (v *visit) copyOf(name string, write func(context.Context, visage.Caller, io.Writer) error) *view {
	by := v.Caller()
	return &view{download: &download{
		name: name + "-" + time.Now().UTC().Format("20060102-150405"), contentType: "application/octet-stream",
		stream: func(ctx context.Context, w io.Writer) error { return write(ctx, by, w) },
	}}
}
