package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/feature/plural"
	xlanguage "golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/message/catalog"

	"github.com/visage-face/visage/console/assets"
)

// files are the templates of the pages, and the messages in every language: messages/LANGUAGE/TOPIC.json, each an
// object from the key of a message to its text, or to its forms for one and for others of its first argument. The keys
// of a file begin with its topic. refusals.json is from the code of a refusal to its sentence.
//
//go:embed templates messages
var files embed.FS

// tags are the languages of the console; the first is for visitors whose browser wants neither.
var tags = []struct {
	tag  xlanguage.Tag
	name string // in the language itself
}{{xlanguage.English, "English"}, {xlanguage.French, "Français"}}

// language is a language of the console: its messages, and the pages with its messages in them. It is safe for
// concurrent use.
type language struct {
	code    string // "en", "fr"
	name    string // in the language itself
	printer *message.Printer
	keys    map[string]bool                               // of all messages
	pages   map[string]func() (*template.Template, error) // each parsed when it is first asked for
	log     *slog.Logger

	mu      sync.Mutex
	missing map[string]bool // keys that were asked for and are not there, each logged once
}

func newLanguages(log *slog.Logger) ([]*language, error) {
	var all []*language
	for _, t := range tags {
		l := &language{code: t.tag.String(), name: t.name, log: log, missing: map[string]bool{}}
		if err := l.readMessages(t.tag); err != nil {
			return nil, fmt.Errorf("make console: messages in %s: %w", l.code, err)
		}
		if err := l.findPages(); err != nil {
			return nil, fmt.Errorf("make console: pages: %w", err)
		}
		all = append(all, l)
	}
	return all, nil
}

// readMessages reads the catalogue of a language.
func (l *language) readMessages(tag xlanguage.Tag) error {
	all, err := readCatalogue(l.code)
	if err != nil {
		return err
	}
	b := catalog.NewBuilder(catalog.Fallback(tag))
	l.keys = make(map[string]bool, len(all))
	for key, m := range all {
		l.keys[key] = true
		if m.other == "" {
			err = b.SetString(tag, key, m.text)
		} else {
			err = b.Set(tag, key, plural.Selectf(1, "%d", "one", m.text, "other", m.other))
		}
		if err != nil {
			return fmt.Errorf("message %q: %w", key, err)
		}
	}
	l.printer = message.NewPrinter(tag, message.Catalog(b))
	return nil
}

// text is a message of a catalogue.
type catalogued struct {
	text  string // or its form for one
	other string // its form for others; empty: it has one form
}

// UnmarshalJSON reads a text, or an object with its two forms.
func (c *catalogued) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &c.text)
	}
	var forms struct{ One, Other string }
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&forms); err != nil || forms.One == "" || forms.Other == "" {
		return fmt.Errorf(`a message is a text, or {"one": …, "other": …}`)
	}
	c.text, c.other = forms.One, forms.Other
	return nil
}

// readCatalogue reads the messages of a language by their keys.
func readCatalogue(code string) (map[string]catalogued, error) {
	names, err := fs.Glob(files, "messages/"+code+"/*.json")
	if err != nil {
		return nil, err
	}
	all := map[string]catalogued{}
	for _, name := range names {
		b, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var some map[string]catalogued
		if err := json.Unmarshal(b, &some); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if path.Base(name) == "refusals.json" {
			refusals := make(map[string]catalogued, len(some))
			for refused, text := range some {
				text.text = strings.ReplaceAll(text.text, "%", "%%")
				refusals["refusal."+refused] = text
			}
			some = refusals
		}
		for key, text := range some {
			if _, twice := all[key]; twice {
				return nil, fmt.Errorf("%s: message %q is in another file too", name, key)
			}
			all[key] = text
		}
	}
	return all, nil
}

// services is the code of the language in which the services speak.
func (l *language) services() string { return tags[0].tag.String() }

// has reports whether there is a message.
func (l *language) has(key string) bool { return l.keys[key] }

// text returns a message. Numbers among its arguments are written as the language does.
func (l *language) text(key string, args ...any) string {
	if !l.keys[key] {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.missing[key] && len(l.missing) < 1000 {
			l.missing[key] = true
			l.log.Error("message of the console is missing", "language", l.code, "key", key)
		}
		return key
	}
	return l.printer.Sprintf(key, args...)
}

// number writes a whole number.
func (l *language) number(n int) string { return l.printer.Sprint(n) }

// when writes a time in UTC, to the minute.
func (l *language) when(t time.Time) string {
	if t.IsZero() {
		return l.text("time.never")
	}
	t = t.UTC()
	return l.text("time.minute", fmt.Sprint(t.Day()), l.text(fmt.Sprintf("time.month.%d", t.Month())),
		fmt.Sprint(t.Year()), t.Format("15:04"))
}

// day writes a date in UTC.
func (l *language) day(t time.Time) string {
	if t.IsZero() {
		return l.text("time.never")
	}
	t = t.UTC()
	return l.text("time.day", fmt.Sprint(t.Day()), l.text(fmt.Sprintf("time.month.%d", t.Month())),
		fmt.Sprint(t.Year()))
}

// span writes a length of time in its largest unit that is whole enough to read.
func (l *language) span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return l.text("time.seconds", int(d/time.Second))
	case d < 2*time.Hour:
		return l.text("time.minutes", int(d/time.Minute))
	case d < 48*time.Hour:
		return l.text("time.hours", int(d/time.Hour))
	}
	return l.text("time.days", int(d/(24*time.Hour)))
}

// size writes a number of bytes in binary units.
func (l *language) size(bytes int64) string {
	units := []string{"size.b", "size.kib", "size.mib", "size.gib", "size.tib"}
	f, i := float64(bytes), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return l.text(units[0], bytes)
	}
	return l.text(units[i], f)
}

// stamp is a time for a <time> element.
type stamp struct{ Machine, Text string }

// findPages finds the templates. A page is parsed, with the messages of the language, when it is first asked for.
func (l *language) findPages() error {
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return err
	}
	common := []string{"templates/layout.html", "templates/parts.html"}
	base := sync.OnceValues(func() (*template.Template, error) {
		return template.New("layout").Funcs(l.functions()).ParseFS(files, common...)
	})
	l.pages = map[string]func() (*template.Template, error){}
	for _, name := range names {
		if slices.Contains(common, name) {
			continue
		}
		l.pages[strings.TrimSuffix(path.Base(name), ".html")] = sync.OnceValues(func() (*template.Template, error) {
			layout, err := base()
			if err != nil {
				return nil, err
			}
			page, err := layout.Clone()
			if err != nil {
				return nil, err
			}
			return page.ParseFS(files, name)
		})
	}
	return nil
}

// functions are the functions of templates.
func (l *language) functions() template.FuncMap {
	return template.FuncMap{
		"t":    l.text,
		"when": func(t time.Time) stamp { return stamp{t.UTC().Format(time.RFC3339), l.when(t)} },
		"day":  func(t time.Time) stamp { return stamp{t.UTC().Format(time.DateOnly), l.day(t)} },
		"span": l.span,
		"size": func(n any) string {
			switch n := n.(type) {
			case uint64:
				return l.size(int64(min(n, math.MaxInt64)))
			case int64:
				return l.size(n)
			case int:
				return l.size(int64(n))
			}
			return ""
		},
		"num":     func(n any) string { return l.printer.Sprint(n) },
		"icon":    assets.Icon,
		"address": breakable,
		"asset":   assets.URL,
		"pair":    func(a, b any) pair { return pair{a, b} },
	}
}

// breakable is an address as HTML that may be broken after its punctuation, so that lines do not end within a name.
func breakable(address string) template.HTML {
	return template.HTML(punctuation.ReplaceAllString(template.HTMLEscapeString(address), "$0<wbr>"))
}

// punctuation matches no part of a character reference.
var punctuation = regexp.MustCompile(`[/.:?=]+`)

// pair hands two values to a part of a page.
type pair struct{ A, B any }

// render writes a page.
func (l *language) render(name string, f frame) ([]byte, error) {
	parse := l.pages[name]
	if parse == nil {
		return nil, fmt.Errorf("there is no template %q among %v", name, slices.Sorted(maps.Keys(l.pages)))
	}
	page, err := parse()
	if err != nil {
		return nil, fmt.Errorf("read page %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := page.ExecuteTemplate(&b, "layout", f); err != nil {
		return nil, fmt.Errorf("write page %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// newMatcher returns what finds the language of the console that a browser wants. It is made once, and not for each
// page.
func newMatcher() xlanguage.Matcher {
	supported := make([]xlanguage.Tag, len(tags))
	for i, t := range tags {
		supported[i] = t.tag
	}
	return xlanguage.NewMatcher(supported)
}

// languageOf returns the language of a request: the chosen one, else the first that the browser accepts.
func (c *Console) languageOf(chosen, accepted string) *language {
	for _, l := range c.languages {
		if l.code == chosen {
			return l
		}
	}
	const longest = 512 // a header that a browser sends is much shorter
	wanted, _, err := xlanguage.ParseAcceptLanguage(accepted[:min(len(accepted), longest)])
	if err != nil {
		return c.languages[0]
	}
	_, i, confidence := c.accepts.Match(wanted...)
	if confidence == xlanguage.No {
		i = 0
	}
	return c.languages[i]
}
