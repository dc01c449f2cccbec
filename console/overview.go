package console

import (
	"slices"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/face"
)

func (c *Console) overviewRoutes() []route {
	return []route{
		page(oneResource, onAccount("read"), c.overview),
		texts(send(oneResource+"/tags", onAccount("write"), c.changeTags)),
		send(oneResource+"/localauth", onAccount("write"), c.changeLocalAuth),
		page(oneResource+"/keys", onAccount("listkeys/action"), c.accessKeys),
		send(oneResource+"/keys", onAccount("regenerateKey/action"), c.regenerateKey),
	}
}

// fact is a name with a value, for lists of facts.
type fact struct {
	Name, Value string
	Code        bool // an identifier, with a button that copies it
}

// sample is a piece of code that uses the resource.
type sample struct{ Language, Code string }

// overviewData is the first page of a resource.
type overviewData struct {
	Facts     []fact
	Limits    []fact
	Keys      string // the address of the page with the keys; empty: the person may not see them
	LocalAuth *form  // nil: the person may not change it
	KeysOff   bool   // keys are refused
	Tags      *form  // likewise
	TagList   []fact
	Samples   []sample
	Delete    string // the page that asks before the resource is deleted; empty: the person may not
}

func (c *Console) overview(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	data, err := c.overviewData(v, a)
	if err != nil {
		return nil, err
	}
	return v.overviewPage(a, data), nil
}

func (v *visit) overviewPage(a account.Account, data *overviewData) *view {
	return v.resourcePage("overview", "", a, data)
}

func (c *Console) overviewData(v *visit, a account.Account) (*overviewData, error) {
	endpoint := c.cfg.Endpoint(a.Host())
	d := &overviewData{
		Facts: []fact{
			{v.text("overview.endpoint"), endpoint, true},
			{v.text("overview.id"), a.ID.String(), true},
			{v.text("overview.tier"), string(a.Tier), false},
			{v.text("overview.location"), a.Location, false},
			{v.text("overview.group"), a.Group, false},
			{v.text("overview.subscription"), c.cfg.Subscription, true},
			{v.text("overview.created"), v.lang.when(a.Created), false},
		},
		KeysOff: a.LocalAuthDisabled,
		Samples: samples(endpoint),
	}
	if a.Subdomain != "" {
		d.Facts = append(d.Facts, fact{v.text("overview.subdomain"), a.Subdomain, true})
	}
	ends, err := c.keyEndsOf(v, a)
	if err != nil {
		return nil, err
	}
	if soon := v.keyEnds(ends); soon != nil {
		d.Facts = append(d.Facts, fact{v.text("overview.key.ends"), v.lang.day(ends) + " · " + soon.Text, false})
	}
	if d.Limits, err = c.limitFacts(v, a); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(a.Tags) {
		d.TagList = append(d.TagList, fact{name, a.Tags[name], false})
	}
	scope := c.cfg.AccountPath(a)
	if v.may("Microsoft.CognitiveServices/accounts/listkeys/action", scope) {
		d.Keys = resourcePath(a.Name, "keys")
	}
	if v.may("Microsoft.CognitiveServices/accounts/delete", scope) {
		d.Delete = resourcePath(a.Name, "delete")
	}
	if v.may("Microsoft.CognitiveServices/accounts/write", scope) {
		d.Tags = v.tagsForm(a)
		d.LocalAuth = v.localAuthForm(a)
	}
	return d, nil
}

// limitFacts are the limits of the pricing tier. Those of the whole resource come with what is used of them; a dash
// stands for that while the data is closed, and for people without a role for it.
func (c *Console) limitFacts(v *visit, a account.Account) (all []fact, err error) {
	used := map[face.Kind]face.Usage{}
	if v.mayData(useFaces, c.cfg.AccountPath(a)) {
		usage, err := c.cfg.Faces.Usage(v.Context(), a.Resource)
		if err != nil && !closed(err) {
			return nil, err
		}
		for _, u := range usage {
			used[u.Kind] = u
		}
	}
	collections := func(u face.Usage) int { return u.Collections }
	persons := func(u face.Usage) int { return u.Persons }
	limits := a.Tier.Limits()
	for _, l := range []struct {
		key   string
		value int
		kind  face.Kind
		used  func(face.Usage) int // nil: it is no limit of the whole resource
	}{
		{"overview.limit.persongroups", limits.PersonGroups, face.PersonGroup, collections},
		{"overview.limit.persons", limits.PersonsInPersonGroups, face.PersonGroup, persons},
		{"overview.limit.personsof", limits.PersonsPerPersonGroup, 0, nil},
		{"overview.limit.largepersongroups", limits.LargePersonGroups, face.LargePersonGroup, collections},
		{"overview.limit.personslarge", limits.PersonsInLargeOnes, face.LargePersonGroup, persons},
		{"overview.limit.personsoflarge", limits.PersonsPerLargeGroup, 0, nil},
		{"overview.limit.facelists", limits.FaceLists, face.FaceList, collections},
		{"overview.limit.facesof", limits.FacesPerFaceList, 0, nil},
		{"overview.limit.largefacelists", limits.LargeFaceLists, face.LargeFaceList, collections},
		{"overview.limit.facesoflarge", limits.FacesPerLargeFaceList, 0, nil},
		{"overview.limit.facesofperson", limits.FacesPerPerson, 0, nil},
	} {
		text := v.lang.number(l.value)
		if l.used != nil {
			n := "—"
			if u, known := used[l.kind]; known {
				n = v.lang.number(l.used(u))
			}
			text = v.text("overview.limit.used", n, text)
		}
		all = append(all, fact{v.text(l.key), text, false})
	}
	return all, nil
}

// revision is a hidden field with the state of a resource that a form was made for.
func revision(a account.Account) *field {
	return &field{Name: "revision", Kind: "hidden", Value: strconv.FormatInt(a.Revision, 10)}
}

// unchanged refuses a form that was made for another state of a resource than the present one: somebody else has
// changed it meanwhile.
func (v *visit) unchanged(a account.Account) error {
	if v.field("revision") == strconv.FormatInt(a.Revision, 10) {
		return nil
	}
	by := a.ChangedBy
	if p, err := v.c.cfg.Directory.Principal(by); err == nil {
		by = p.Name
	}
	return visage.Refuse(visage.Conflict, "ChangedMeanwhile",
		"%s changed this resource on %s, after you opened the page. The page now shows the resource as it is: check "+
			"it, and send the form again.", by, a.Changed.UTC().Format("2006-01-02 15:04:05 UTC"))
}

func (v *visit) tagsForm(a account.Account) *form {
	var lines []string
	for _, name := range sortedKeys(a.Tags) {
		lines = append(lines, name+" = "+a.Tags[name])
	}
	f := v.form(resourcePath(a.Name, "tags"), v.text("overview.tags.save"), revision(a), &field{
		Name: "tags", Kind: "textarea", Label: v.text("overview.tags"), Hint: v.text("overview.tags.hint"),
		Value: strings.Join(lines, "\n"),
	})
	f.Style = "plain"
	return f
}

func (c *Console) changeTags(v *visit) (*view, error) {
	tags, err := parseTags(v.field("tags"))
	var a account.Account
	if err == nil {
		a, err = c.cfg.Accounts.Update(v.Context(), v.Caller(), v.Path("account"),
			func(now account.Account) (account.Change, error) { return account.Change{Tags: tags}, v.unchanged(now) })
	}
	if err == nil {
		return v.done(resourcePath(a.Name, ""), "overview.tags.saved"), nil
	}
	return c.overviewAgain(v, err, func(d *overviewData) *form { return d.Tags },
		map[string]string{"InvalidTags": "tags", "InvalidTagName": "tags", "InvalidTagValue": "tags"})
}

// overviewAgain shows the page of a resource with a form that was refused.
func (c *Console) overviewAgain(
	v *visit, refused error, pick func(*overviewData) *form, fields map[string]string,
) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	data, err := c.overviewData(v, a)
	if err != nil {
		return nil, err
	}
	f := pick(data)
	if f == nil || !v.refused(f, refused, fields) {
		return nil, refused
	}
	return v.again(v.overviewPage(a, data), f.Error), nil
}

// parseTags reads lines of "name = value".
func parseTags(text string) (map[string]string, error) {
	tags := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if _, twice := tags[name]; !found || twice {
			return nil, visage.Refuse(visage.Invalid, "InvalidTags",
				"The line %q is not a tag: write one tag a line, as name = value, each name once.", cut(line, 80))
		}
		tags[name] = strings.TrimSpace(value)
	}
	return tags, nil
}

func (v *visit) localAuthForm(a account.Account) *form {
	text, value := v.text("overview.localauth.disable"), "off"
	if a.LocalAuthDisabled {
		text, value = v.text("overview.localauth.enable"), "on"
	}
	f := v.button(resourcePath(a.Name, "localauth"), text, "plain", "keys", value)
	f.Fields = append(f.Fields, revision(a))
	return f
}

func (c *Console) changeLocalAuth(v *visit) (*view, error) {
	off := v.field("keys") == "off"
	a, err := c.cfg.Accounts.Update(v.Context(), v.Caller(), v.Path("account"),
		func(now account.Account) (account.Change, error) {
			return account.Change{LocalAuthDisabled: &off}, v.unchanged(now)
		})
	switch {
	case err != nil:
		return c.overviewAgain(v, err, func(d *overviewData) *form { return d.LocalAuth }, nil)
	case off:
		return v.done(resourcePath(a.Name, ""), "overview.localauth.disabled"), nil
	}
	return v.done(resourcePath(a.Name, ""), "overview.localauth.enabled"), nil
}

// accessKeysData is the page with the keys of a resource.
type accessKeysData struct {
	Keys []accessKey
	Off  bool // keys are refused
}

type accessKey struct {
	Name, Value string
	Regenerate  *form // nil: the person may not do it
}

// accessKeys shows the keys of a resource; the audit log has an entry of it.
func (c *Console) accessKeys(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	keys, err := c.cfg.Accounts.ListKeys(v.Context(), v.Caller(), a.Name)
	if err != nil {
		return nil, err
	}
	data := accessKeysData{Off: a.LocalAuthDisabled}
	may := v.may("Microsoft.CognitiveServices/accounts/regenerateKey/action", c.cfg.AccountPath(a))
	for _, k := range []accessKey{
		{Name: string(account.Key1), Value: keys.Key1}, {Name: string(account.Key2), Value: keys.Key2},
	} {
		if may {
			k.Regenerate = v.button(resourcePath(a.Name, "keys"), v.text("keys.regenerate"), "danger", "key", k.Name)
		}
		data.Keys = append(data.Keys, k)
	}
	w := v.resourcePage("keys", "", a, data)
	w.title = v.text("resource.title", v.text("keys.title"), a.Name)
	return w, nil
}

func (c *Console) regenerateKey(v *visit) (*view, error) {
	key, err := account.ParseKeyName(v.field("key"))
	if err != nil {
		return nil, err
	}
	if _, err = c.cfg.Accounts.Regenerate(v.Context(), v.Caller(), v.Path("account"), key); err != nil {
		return nil, err
	}
	return v.done(resourcePath(v.Path("account"), "keys"), "keys.regenerated", string(key)), nil
}

// samples are programs that detect faces with a resource. The key is read from the environment, so that it is not part
// of programs.
func samples(endpoint string) []sample {
	const photo = "photo.jpg"
	detect := endpoint + "face/v1.2/detect?returnFaceId=false"
	return []sample{
		{"curl", "curl --cacert ca.pem -H \"Ocp-Apim-Subscription-Key: $FACE_KEY\" \\\n" +
			"  -H 'Content-Type: application/octet-stream' --data-binary @" + photo + " \\\n" +
			"  '" + detect + "'"},
		{"JavaScript", `import createFaceClient from "@azure-rest/ai-vision-face";
import { AzureKeyCredential } from "@azure/core-auth";
import { readFile } from "node:fs/promises";

const client = createFaceClient("` + endpoint + `", new AzureKeyCredential(process.env.FACE_KEY));
const answer = await client.path("/detect").post({
  contentType: "application/octet-stream",
  queryParameters: { returnFaceId: false },
  body: await readFile("` + photo + `"),
});
console.log(answer.body);`},
		{"Go", `photo, err := os.Open("` + photo + `")
if err != nil {
	log.Fatal(err)
}
req, err := http.NewRequest(http.MethodPost, "` + detect + `", photo)
if err != nil {
	log.Fatal(err)
}
req.Header.Set("Ocp-Apim-Subscription-Key", os.Getenv("FACE_KEY"))
req.Header.Set("Content-Type", "application/octet-stream")
res, err := http.DefaultClient.Do(req)`},
		{"Python", `import os
from azure.ai.vision.face import FaceClient
from azure.core.credentials import AzureKeyCredential

client = FaceClient("` + endpoint + `", AzureKeyCredential(os.environ["FACE_KEY"]))
faces = client.detect(open("` + photo + `", "rb").read(), detection_model="detection_03",
                      recognition_model="recognition_04", return_face_id=False)`},
		{"C#", `using Azure;
using Azure.AI.Vision.Face;

var client = new FaceClient(new Uri("` + endpoint + `"),
    new AzureKeyCredential(Environment.GetEnvironmentVariable("FACE_KEY")));
var faces = await client.DetectAsync(BinaryData.FromBytes(File.ReadAllBytes("` + photo + `")),
    FaceDetectionModel.Detection03, FaceRecognitionModel.Recognition04, returnFaceId: false);`},
	}
}

func sortedKeys(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
