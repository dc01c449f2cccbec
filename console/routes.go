package console

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/keyvault"
)

// handle makes the page of a visit, or does what a form asks for.
type handle func(*visit) (*view, error)

// route is a page or a form.
type route struct {
	method, pattern string
	need            need
	handle          handle
	body            int64         // of a form, in bytes; 0: formBytes
	time            time.Duration // 0: pageTime or formTime
	texts           bool          // what is typed into the form may wait for the person in memory, see draft
}

// need says who may see a page or send a form.
type need struct {
	open  bool // everybody, without a session
	fresh bool // a proof of the person that is a few minutes old: before what cannot be undone
	may   func(*visit) (allowed bool, err error)
}

var (
	open     = need{open: true}
	signedIn = need{may: func(*visit) (bool, error) { return true, nil }}
	operator = need{may: func(v *visit) (bool, error) { return v.operates(), nil }}
)

// freshly is a need with a fresh proof.
func freshly(n need) need {
	n.fresh = true
	return n
}

// onSubscription needs a role with an action on the subscription.
func onSubscription(action string) need {
	return need{may: func(v *visit) (bool, error) { return v.may(action, v.c.subscription()), nil }}
}

// onAccount needs a role with an action on the resource that the path names.
func onAccount(action string) need {
	return need{may: func(v *visit) (bool, error) {
		a, found := v.c.cfg.Accounts.Find(v.Path("account"))
		return v.may("Microsoft.CognitiveServices/accounts/"+action, v.c.pathOf(a, found, v.Path("account"))), nil
	}}
}

// useFaces is the action of using the data of a resource.
const useFaces = "Microsoft.CognitiveServices/accounts/Face/action"

// onFaces needs a role that uses the data of the resource that the path names.
func onFaces() need {
	return need{may: func(v *visit) (bool, error) {
		a, found := v.c.cfg.Accounts.Find(v.Path("account"))
		return v.mayData(useFaces, v.c.pathOf(a, found, v.Path("account"))), nil
	}}
}

// onVault needs a role with an action on the vault that the path names.
func onVault(action string) need {
	return need{may: func(v *visit) (bool, error) {
		return v.may("Microsoft.KeyVault/vaults/"+action,
			v.c.group()+"/providers/Microsoft.KeyVault/vaults/"+v.Path("vault")), nil
	}}
}

// pathOf is the scope of a resource, also of one that does not exist: only people with a role above it learn that.
func (c *Console) pathOf(a account.Account, found bool, name string) string {
	if found {
		return c.cfg.AccountPath(a)
	}
	return c.group() + "/providers/Microsoft.CognitiveServices/accounts/" + name
}

// The patterns of paths.
const (
	oneResource = prefix + "/resources/{account}"
	oneVault    = prefix + "/vaults/{vault}"
	oneJob      = prefix + "/jobs/{job}"
)

// table lists every page and form of the console.
func (c *Console) table() []route {
	var all []route
	for _, some := range [][]route{
		c.frameRoutes(),
		c.signInRoutes(),
		c.homeRoutes(),
		c.overviewRoutes(),
		c.vaultRoutes(),
		c.createRoutes(),
		c.deletionRoutes(),
		c.requestRoutes(),
		c.faceRoutes(),
		c.tryRoutes(),
		c.encryptionRoutes(),
		c.identityRoutes(),
		c.peopleRoutes(),
		c.applicationRoutes(),
		c.sessionRoutes(),
		c.roleRoutes(),
		c.auditRoutes(),
		c.metricsRoutes(),
		c.operationsRoutes(),
		c.replicaRoutes(),
		c.rootKeyRoutes(),
		c.passkeyRoutes(),
		c.keyStoreRoutes(),
	} {
		all = append(all, some...)
	}
	return all
}

// page is a route for GET, send one for POST.
func page(pattern string, need need, handle handle) route {
	return route{method: http.MethodGet, pattern: pattern, need: need, handle: handle}
}

func send(pattern string, need need, handle handle) route {
	return route{method: http.MethodPost, pattern: pattern, need: need, handle: handle}
}

// texts is the route of a form with ordinary texts, which may be kept in memory: it has no files and no secrets,
// destroys nothing, and either makes something new or carries the state of what it changes.
func texts(r route) route {
	r.texts = true
	return r
}

// made makes the plane's route of a page or form.
func (r route) made(c *Console) api.Route {
	made := api.Route{
		Method: r.method, Pattern: r.pattern, Allow: api.PlaneToken, Timeout: r.time,
		Handle: func(req *api.Request) (any, error) { return c.serve(r, req) },
	}
	if r.need.open {
		made.Allow = api.Anyone
	}
	if r.method == http.MethodPost {
		made.MaxBody = formBytes
		if r.body > 0 {
			made.MaxBody = r.body
		}
	}
	if made.Timeout == 0 {
		made.Timeout = pageTime
		if r.method == http.MethodPost {
			made.Timeout = formTime
		}
	}
	return made
}

// serve answers one request. Nothing of a form is read before its sender is admitted.
func (c *Console) serve(r route, req *api.Request) (any, error) {
	v := c.newVisit(req)
	if v.sends() {
		if err := v.CheckOrigin(); err != nil {
			return nil, err
		}
	}
	if err := v.admitted(r); err != nil {
		if errors.Is(err, errStale) {
			return v.reply(v.proofPage())
		}
		return nil, err
	}
	if v.sends() {
		if err := v.readForm(); err != nil {
			return nil, err
		}
		if err := v.stillSignedIn(); err != nil {
			return nil, err
		}
	}
	handle := func() (*view, error) { return r.handle(v) }
	if v.sends() && v.signedIn() {
		once := handle
		handle = func() (*view, error) { return v.once(once) }
	}
	w, err := handle()
	if errors.Is(err, errStale) {
		w = v.proofPage()
		if r.texts && v.sends() {
			d := draft{principal: v.Principal.ObjectID, name: v.session.Name, action: v.URL()}
			if kept := c.drafts.keep(d, v.typed); kept != "" {
				w.header.Add("Set-Cookie", kept)
			}
		}
		return v.reply(w)
	}
	req.Recorded = req.Recorded || keyvault.Recorded(err)
	if err != nil {
		return nil, err
	}
	return v.reply(w)
}

// stillSignedIn refuses a form whose session has ended while its body was on the way: the person may have signed out
// meanwhile, or an operator may have ended the session.
func (v *visit) stillSignedIn() error {
	if !v.signedIn() {
		return nil
	}
	_, _, err := v.c.cfg.Directory.Watch(v.secret)
	return err
}

// needProof asks the person to prove again who they are, if that was too long ago, before what locks resources; nil:
// none.
func (v *visit) needProof(locks *protected) error {
	if locks == nil {
		return nil
	}
	err := v.needFresh()
	if err != nil {
		v.locks = locks
	}
	return err
}

// errStale says that a person has to prove again who they are.
var errStale = errors.New("the proof of the person is too old")

// admitted refuses a person who may not see a page or send a form.
func (v *visit) admitted(r route) error {
	if r.need.open {
		return nil
	}
	allowed, err := r.need.may(v)
	v.Recorded = v.Recorded || keyvault.Recorded(err)
	if err != nil {
		return err
	}
	if !allowed {
		return visage.Refuse(visage.Denied, "AuthorizationFailed",
			"You have no role that allows this. Ask an owner of the resource or the operator of the service for one.")
	}
	if r.need.fresh {
		return v.needFresh()
	}
	return nil
}

// navigation lists the main pages that the person may see.
func (v *visit) navigation() []tab {
	at, _, _ := strings.Cut(v.URL(), "?")
	var all []tab
	for _, entry := range v.c.mainPages() {
		if allowed, err := entry.need.may(v); err != nil || !allowed {
			continue
		}
		within := at == entry.to || entry.to != prefix && strings.HasPrefix(at, entry.to+"/")
		if entry.to == prefix {
			within = strings.TrimSuffix(at, "/") == prefix || strings.HasPrefix(at, prefix+"/resources")
		}
		all = append(all, tab{v.text(entry.key), entry.to, within})
	}
	return all
}

// mainPage is an entry of the navigation.
type mainPage struct {
	key, to string
	need    need
}

func (c *Console) mainPages() []mainPage {
	return []mainPage{
		{"nav.home", prefix, signedIn},
		{"nav.vaults", prefix + "/vaults", signedIn},
		{"nav.stores", storesPath, operator},
		{"nav.requests", prefix + "/requests", onSubscription(readRequests)},
		{"nav.access", accessPath, onSubscription(readPeople)},
		{"nav.operations", prefix + "/operations", operator},
		{"nav.metrics", prefix + "/metrics", operator},
		{"nav.audit", prefix + "/audit", operator},
	}
}
