package console

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
)

// RootKeys changes the root key of the instance, for operators. Each call is recorded in the audit log.
type RootKeys interface {
	// Add adds a protector, written as in the setting root-key. Refusals: InvalidRootProtector, RootProtectorExists,
	// RootProtectorNotLocal, RootProtectorUnavailable.
	Add(ctx context.Context, by visage.Caller, entry string) error
	// Remove removes a protector. Refusals: RootProtectorNotFound, LastRootProtector.
	Remove(ctx context.Context, by visage.Caller, name string) error
	// Test asks every protector to open the root key. It returns what each said, by its name: empty if it opens it,
	// else why it does not, in English.
	Test(ctx context.Context, by visage.Caller) (said map[string]string, err error)
	// Rotate makes a new root key, and seals anew in the background what the earlier one sealed. Refusals:
	// RootKeyRotating, RootKeyVersionsUsed, RootProtectorUnavailable.
	Rotate(ctx context.Context, by visage.Caller) error
}

// RootKey is how the root key of an instance stands.
type RootKey struct {
	Version     uint32
	Made        time.Time // zero: not known
	Protectors  []Protector
	Exposed     bool      // a copy of the machine's disks may open the data
	Rotating    bool      // what earlier versions of the key sealed is being sealed anew
	Delayed     bool      // that does not go on
	Done, Total int       // of the present step of that; a total of 0 is not known
	Kit         time.Time // when a recovery kit of this version was made; zero: never
	Proved      time.Time // when one was proved to open it; zero: never
	Ignored     []string  // entries of the settings that are not used, since their protectors were removed
}

// Protector is a protector of the root key.
type Protector struct {
	Name    string
	Entry   string // how the settings named it when it was added; may be empty
	Exposed bool   // it lies beside the data: anyone who can read the data can read it too
	// the settings of this start name it, or it was added since; one that is not cannot open the next start
	Configured bool
	Tested     time.Time // when it last opened the root key; zero: not known
}

const (
	rootKeyPath       = prefix + "/operations/rootkey"
	addProtectorPath  = rootKeyPath + "/add"
	dropProtectorPath = rootKeyPath + "/remove"
	rotateRootPath    = rootKeyPath + "/rotate"
	rotationPeriod    = 3 * time.Second // between two looks at a rotation
)

func (c *Console) rootKeyRoutes() []route {
	test := send(rootKeyPath+"/test", operator, c.testRootKey)
	add := send(addProtectorPath, freshly(operator), c.addProtector)
	remove := send(dropProtectorPath, freshly(operator), c.removeProtector)
	rotate := send(rotateRootPath, freshly(operator), c.rotateRootKey)
	for _, r := range []*route{&test, &add, &remove, &rotate} {
		r.time = protectorsTime
	}
	return []route{
		page(rootKeyPath, operator, c.rootKey), test,
		page(addProtectorPath, freshly(operator), c.newProtector), add,
		page(dropProtectorPath, freshly(operator), c.askProtector), remove,
		page(rotateRootPath, freshly(operator), c.askRotation), rotate,
	}
}

// protectorsTime limits a form that asks every protector, each of which may take 20 seconds.
const protectorsTime = 5 * time.Minute

// protectorRow is a protector in a table.
type protectorRow struct {
	Protector
	Badge  badge
	Answer *protectorAnswer // to a test; nil: it was not asked
	Remove string           // the page that asks; empty: it cannot be removed
}

// protectorAnswer is what a protector said in a test.
type protectorAnswer struct {
	Badge badge
	Says  string // in English; empty: it opens the key
}

// rootKeyData is the page of the root key.
type rootKeyData struct {
	Alerts     []task
	Facts      []fact
	Ignored    []string
	Protectors []protectorRow
	Only       bool // there is one protector only
	Tested     bool // the page has the answers to a test
	Failed     bool // of which not all were good
	Add        string
	Test       *form
	Rotate     string // the page that asks; empty: a rotation is under way
}

func (c *Console) rootKey(v *visit) (*view, error) {
	w, _ := c.rootKeyPage(v, nil)
	return w, nil
}

// rootKeyPage makes the page, with what the protectors said in a test; nil: there was none.
func (c *Console) rootKeyPage(v *visit, said map[string]string) (*view, *rootKeyData) {
	k := c.cfg.Instance.State().Root
	d := &rootKeyData{Facts: v.rootKeyFacts(k), Ignored: k.Ignored, Only: len(k.Protectors) == 1, Tested: said != nil,
		Add: addProtectorPath, Test: v.button(rootKeyPath+"/test", v.text("rootkey.test"), "plain")}
	d.Test.Icon, d.Test.ID = "play", "do-test"
	if !k.Rotating {
		d.Rotate = rotateRootPath
	}
	for _, p := range k.Protectors {
		row := protectorRow{Protector: p, Badge: v.protectorBadge(p)}
		if !d.Only {
			row.Remove = withQuery(dropProtectorPath, "protector", p.Name)
		}
		if says, asked := said[p.Name]; asked {
			row.Answer = &protectorAnswer{badge{"ok", "ok", v.text("rootkey.opens")}, says}
			if says != "" {
				d.Failed = true
				row.Answer.Badge = badge{"bad", "bad", v.text("rootkey.fails")}
			}
		}
		d.Protectors = append(d.Protectors, row)
	}
	d.Alerts = withoutLink(rootKeyPath, v.rootKeyAlerts(k))
	w := v.page("rootkey", v.text("rootkey.title"), d)
	w.crumbs = []link{{v.text("operations.title"), prefix + "/operations"}}
	if k.Rotating && said == nil {
		w.refresh = rotationPeriod
	}
	return w, d
}

// rootKeyAlerts says what the root key needs.
func (v *visit) rootKeyAlerts(k RootKey) (all []task) {
	exposed := false
	for _, p := range k.Protectors {
		if p.Exposed {
			exposed = true
			all = append(all, task{"warn", v.text("operations.alert.exposed", p.Name), rootKeyPath})
		}
	}
	if k.Exposed && !exposed {
		all = append(all, task{"warn", v.text("operations.alert.rotate"), rootKeyPath})
	}
	if k.Delayed {
		all = append(all, task{"bad", v.text("operations.alert.rotation"), rootKeyPath})
	}
	return all
}

// withoutLink are alerts on the page that their links lead to.
func withoutLink(page string, all []task) []task {
	for i := range all {
		if all[i].To == page {
			all[i].To = ""
		}
	}
	return all
}

// rootKeyFacts are the facts about the root key that pages show.
func (v *visit) rootKeyFacts(k RootKey) []fact {
	all := []fact{{v.text("operations.root.version"), v.lang.number(int(k.Version)), false}}
	if !k.Made.IsZero() {
		all = append(all, fact{v.text("rootkey.made"), v.lang.when(k.Made), false})
	}
	all = append(all, fact{v.text("operations.root.kit"), v.whenever(k.Kit), false},
		fact{v.text("operations.root.proved"), v.whenever(k.Proved), false})
	switch {
	case k.Rotating && k.Total > 0:
		all = append(all, fact{v.text("operations.root.rotation"), v.text("rootkey.rotating.of",
			v.lang.number(k.Done), v.lang.number(k.Total)), false})
	case k.Rotating:
		all = append(all, fact{v.text("operations.root.rotation"), v.text("operations.root.rotating"), false})
	}
	return all
}

// protectorBadge says what a protector is worth.
func (v *visit) protectorBadge(p Protector) badge {
	switch {
	case p.Exposed:
		return badge{"warn", "warn", v.text("operations.root.exposed")}
	case !p.Configured:
		return badge{"warn", "warn", v.text("operations.root.detached")}
	}
	return badge{"ok", "ok", v.text("operations.root.apart")}
}

// whenever is a time in words, or that it never was.
func (v *visit) whenever(t time.Time) string {
	if t.IsZero() {
		return v.text("operations.root.never")
	}
	return v.lang.when(t)
}

func (c *Console) testRootKey(v *visit) (*view, error) {
	said, err := c.cfg.RootKeys.Test(v.Context(), v.Caller())
	if err != nil {
		return nil, err
	}
	w, _ := c.rootKeyPage(v, said)
	return w, nil
}

// rootKeyStep makes a page below that of the root key.
func (v *visit) rootKeyStep(template, title string, data any) *view {
	w := v.page(template, title, data)
	w.crumbs = []link{{v.text("operations.title"), prefix + "/operations"}, {v.text("rootkey.title"), rootKeyPath}}
	return w
}

func (c *Console) newProtector(v *visit) (*view, error) {
	w, _ := c.newProtectorPage(v)
	return w, nil
}

func (c *Console) newProtectorPage(v *visit) (*view, *form) {
	f := v.form(addProtectorPath, v.text("rootkey.add"), &field{Name: "entry", Kind: "text", Required: true,
		Label: v.text("rootkey.entry"), Hint: v.text("rootkey.entry.hint"), Max: 1024, Code: true})
	f.Icon, f.Cancel = "plus", rootKeyPath
	return v.rootKeyStep("rootkeyadd", v.text("rootkey.add"), f), f
}

func (c *Console) addProtector(v *visit) (*view, error) {
	entry := strings.TrimSpace(v.field("entry"))
	err := c.cfg.RootKeys.Add(v.Context(), v.Caller(), entry)
	if err == nil {
		return v.done(rootKeyPath, "rootkey.added", isolated(entry)), nil
	}
	w, f := c.newProtectorPage(v)
	if !v.refused(f, err, map[string]string{"InvalidRootProtector": "entry", "RootProtectorExists": "entry"}) {
		return nil, err
	}
	return v.again(w, f.Error), nil
}

func (c *Console) askProtector(v *visit) (*view, error) {
	w, _, err := c.protectorPage(v)
	return w, err
}

// protectorPage asks before a protector is removed.
func (c *Console) protectorPage(v *visit) (*view, *form, error) {
	k := c.cfg.Instance.State().Root
	i := slices.IndexFunc(k.Protectors, func(p Protector) bool { return p.Name == v.field("protector") })
	if i < 0 {
		return nil, nil, refuseUnknownPage()
	}
	p := k.Protectors[i]
	f := v.button(dropProtectorPath, v.text("rootkey.remove"), "danger", "protector", p.Name)
	f.Icon, f.Cancel = "trash", rootKeyPath
	d := askData{Warn: []string{v.text("rootkey.remove.warn", isolated(p.Name))},
		Consequences: []string{v.text("rootkey.remove.another"), v.text("rootkey.remove.stays")}, Form: f}
	if p.Exposed {
		d.Consequences = append(d.Consequences, v.text("rootkey.remove.rotate"))
	}
	return v.rootKeyStep("vaultask", v.text("rootkey.remove"), d), f, nil
}

func (c *Console) removeProtector(v *visit) (*view, error) {
	name := v.field("protector")
	err := c.cfg.RootKeys.Remove(v.Context(), v.Caller(), name)
	if err == nil {
		return v.done(rootKeyPath, "rootkey.removed", isolated(name)), nil
	}
	w, f, missing := c.protectorPage(v)
	if missing != nil || !v.refused(f, err, nil) {
		return nil, err
	}
	return v.again(w, f.Error), nil
}

func (c *Console) askRotation(v *visit) (*view, error) {
	w, _ := c.rootRotationPage(v)
	return w, nil
}

// rootRotationPage asks before the root key is rotated.
func (c *Console) rootRotationPage(v *visit) (*view, *form) {
	f := v.button(rotateRootPath, v.text("rootkey.rotate"), "primary")
	f.Icon, f.Cancel = "rotate", rootKeyPath
	d := askData{Consequences: []string{v.text("rootkey.rotate.protectors"), v.text("rootkey.rotate.background"),
		v.text("rootkey.rotate.copies"), v.text("rootkey.rotate.kit")}, Form: f}
	return v.rootKeyStep("vaultask", v.text("rootkey.rotate"), d), f
}

func (c *Console) rotateRootKey(v *visit) (*view, error) {
	err := c.cfg.RootKeys.Rotate(v.Context(), v.Caller())
	if err == nil {
		return v.done(rootKeyPath, "rootkey.rotated"), nil
	}
	w, f := c.rootRotationPage(v)
	if !v.refused(f, err, nil) {
		return nil, err
	}
	return v.again(w, f.Error), nil
}
