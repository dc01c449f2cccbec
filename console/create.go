package console

import (
	"cmp"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
)

func (c *Console) createRoutes() []route {
	return []route{
		page(prefix+"/create", onGroup(writeAccount), c.create),
		texts(send(prefix+"/create", onGroup(writeAccount), c.createResource)),
	}
}

// writeAccount is the action of making and changing a resource.
const writeAccount = "Microsoft.CognitiveServices/accounts/write"

// onGroup needs a role with an action on the resource group.
func onGroup(action string) need {
	return need{may: func(v *visit) (bool, error) { return v.may(action, v.c.group()), nil }}
}

// createData is the page that creates a resource.
type createData struct {
	Form     *form
	Requests string // the page of access requests; empty: the person may not see it
	Offered  string // what there is for tier E0
	Free     bool   // there is a place for a resource of tier E0
}

func (c *Console) create(v *visit) (*view, error) {
	data, err := c.createData(v)
	if err != nil {
		return nil, err
	}
	return v.createPage(data), nil
}

func (v *visit) createPage(data *createData) *view {
	w := v.page("create", v.text("create.title"), data)
	w.crumbs = []link{{v.text("nav.home"), prefix}}
	return w
}

func (c *Console) createData(v *visit) (*createData, error) {
	d := &createData{}
	approved, queued, err := c.places(v)
	if err != nil {
		return nil, err
	}
	switch {
	case c.cfg.Accounts.Access().Automatic():
		d.Free, d.Offered = true, v.text("create.automatic")
	case approved > 0:
		d.Free, d.Offered = true, v.text("create.places", approved)
	case queued > 0:
		d.Offered = v.text("create.queued", queued)
	default:
		d.Offered = v.text("create.noplace")
	}
	if v.may(readRequests, c.subscription()) {
		d.Requests = prefix + "/requests"
	}
	regions, err := c.regions(v)
	if err != nil {
		return nil, err
	}
	location := &field{Name: "location", Kind: "text", Label: v.text("create.location"), Required: true, Max: 64,
		Value: regions[0], Hint: v.text("create.location.hint", strings.Join(regions, ", "))}
	tier := &field{
		Name: "tier", Kind: "radio", Label: v.text("create.tier"), Required: true, Value: string(visage.S0),
	}
	for _, t := range []visage.Tier{visage.F0, visage.S0, visage.E0} {
		tier.Options = append(tier.Options, option{Value: string(t), Text: string(t),
			Hint: v.text("create.tier." + strings.ToLower(string(t)))})
	}
	d.Form = v.form(prefix+"/create", v.text("create.submit"),
		&field{Name: "name", Kind: "text", Label: v.text("create.name"), Required: true, Max: 64, Code: true,
			Hint: v.text("create.name.hint")},
		location, tier,
		&field{Name: "subdomain", Kind: "text", Label: v.text("create.subdomain"), Max: 64, Code: true,
			Hint: v.text("create.subdomain.hint")},
	)
	d.Form.Cancel = prefix
	return d, nil
}

// places counts the places for resources of tier E0 that approved requests hold free, and the requests that wait for a
// place.
func (c *Console) places(v *visit) (approved, queued int, err error) {
	all, err := c.cfg.Accounts.Access().Requests(v.Context())
	for _, q := range all {
		switch {
		case q.State == account.RequestApproved && q.Account == "":
			approved++
		case q.State == account.RequestQueued:
			queued++
		}
	}
	return approved, queued, err
}

// maxRegions is how many regions a hint lists.
const maxRegions = 8

// regions lists the regions that resources are in, the one with most resources first: at least one.
func (c *Console) regions(v *visit) ([]string, error) {
	all, err := c.cfg.Accounts.List(v.Context())
	if err != nil {
		return nil, err
	}
	count, spelled := map[string]int{}, map[string]string{}
	for _, a := range all {
		folded := visage.FoldLocation(a.Location)
		count[folded]++
		spelled[folded] = a.Location
	}
	if len(count) == 0 {
		return []string{"local"}, nil
	}
	folded := sortedKeys(spelled)
	slices.SortStableFunc(folded, func(a, b string) int { return cmp.Compare(count[b], count[a]) })
	regions := make([]string, 0, maxRegions)
	for _, f := range folded[:min(len(folded), maxRegions)] {
		regions = append(regions, spelled[f])
	}
	return regions, nil
}

func (c *Console) createResource(v *visit) (*view, error) {
	var a account.Account
	var err error
	if location := v.field("location"); location == "" {
		err = visage.Refuse(visage.Invalid, "LocationRequired",
			"Name the region of the resource: any word of your own, the same for the key vault that holds its key.")
	} else {
		a, err = c.cfg.Accounts.Create(v.Context(), v.Caller(), account.Creation{
			Name: v.field("name"), Group: c.cfg.Group, Location: location, Tier: visage.Tier(v.field("tier")),
			Subdomain: v.field("subdomain"),
		})
	}
	if err == nil {
		return v.done(resourcePath(a.Name, ""), "create.done", a.Name), nil
	}
	data, failed := c.createData(v)
	if failed != nil {
		return nil, failed
	}
	const region = "LocationNotAvailableForResourceType"
	if !v.refused(data.Form, err, map[string]string{
		"InvalidResourceName": "name", "AccountAlreadyExists": "name", "FlagMustBeSetForRestore": "name",
		"LocationRequired": "location", region: "location", "InvalidSkuId": "tier",
		"CanNotCreateMultipleFreeAccounts": "tier", "CustomerManagedKeyNotApproved": "tier",
		"InvalidSubdomain": "subdomain", "CustomDomainInUse": "subdomain",
	}) {
		return nil, err
	}
	return v.again(v.createPage(data), data.Form.Error), nil
}
