package assets_test

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Least contrasts of WCAG 2.2: of text (success criterion 1.4.3), and of what one has to see to use a page (1.4.11).
const (
	ofText  = 4.5
	ofParts = 3
)

// pairs are the tokens of style.css that stand on each other.
var pairs = []struct {
	least  float64
	on     string // backgrounds
	tokens string // what stands on each
}{
	{ofText, "bg surface sunken", "text muted accent accent-strong"},
	{ofText, "accent accent-strong", "on-accent"},
	{ofText, "danger danger-strong", "on-danger"},
	{ofText, "ok-soft warn-soft bad-soft info-soft off-soft accent-soft", "text"},
	{ofText, "accent-soft", "accent accent-strong"},
	{ofText, "ok-soft", "ok"}, {ofText, "warn-soft", "warn"}, {ofText, "bad-soft", "bad"},
	{ofText, "info-soft", "info"}, {ofText, "off-soft", "off muted"},
	{ofText, "bg surface", "ok warn bad info off"},
	{ofParts, "bg surface sunken", "control focus series-1 series-2 series-3 series-4"},
	{ofParts, "accent-soft ok-soft warn-soft bad-soft", "control focus"},
}

// TestContrast measures every pair in both themes.
func TestContrast(t *testing.T) {
	f, _ := open(t, "style.css")
	light, dark, both := themes(t, string(f.Content))
	if !both {
		t.Fatal("style.css has no tokens for one of the themes")
	}
	for name := range light {
		if strings.HasPrefix(light[name], "#") && dark[name] == "" {
			t.Errorf("--%s has no colour in the dark theme", name)
		}
	}
	for theme, tokens := range map[string]map[string]string{"light": light, "dark": dark} {
		for _, p := range pairs {
			for _, on := range strings.Fields(p.on) {
				for _, token := range strings.Fields(p.tokens) {
					ratio, err := contrast(tokens[token], tokens[on])
					if err != nil || ratio < p.least {
						t.Errorf("%s: --%s on --%s: %.2f, want at least %v (%v)", theme, token, on, ratio, p.least, err)
					}
				}
			}
		}
	}
}

// TestContrastIsThatOfTheStandard measures pairs whose contrast is known.
func TestContrastIsThatOfTheStandard(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want float64
	}{{"#000000", "#ffffff", 21}, {"#ffffff", "#ffffff", 1}, {"#777777", "#ffffff", 4.48}} {
		if got, err := contrast(c.a, c.b); err != nil || math.Abs(got-c.want) > 0.005 {
			t.Errorf("%s on %s: %.3f (%v), want %.2f", c.a, c.b, got, err, c.want)
		}
	}
	if _, err := contrast("", "#ffffff"); err == nil {
		t.Error("a token that does not exist has a contrast")
	}
}

var declaration = regexp.MustCompile(`--([a-z0-9-]+): ([^;]+);`)

// themes reads the tokens of both themes: the first two blocks of :root.
func themes(t *testing.T, css string) (light, dark map[string]string, both bool) {
	t.Helper()
	_, first, found := strings.Cut(css, "\n:root {")
	_, second, also := strings.Cut(css, "@media (prefers-color-scheme: dark) {\n  :root {")
	read := func(block string) map[string]string {
		block, _, _ = strings.Cut(block, "}")
		tokens := map[string]string{}
		for _, match := range declaration.FindAllStringSubmatch(block, -1) {
			tokens[match[1]] = match[2]
		}
		return tokens
	}
	return read(first), read(second), found && also
}

// contrast is the contrast ratio of two colours in the form #rrggbb, from 1 to 21.
func contrast(a, b string) (float64, error) {
	la, err := luminance(a)
	if err != nil {
		return 0, err
	}
	lb, err := luminance(b)
	if err != nil {
		return 0, err
	}
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05), nil
}

// luminance is the relative luminance of WCAG 2.2.
func luminance(colour string) (float64, error) {
	if len(colour) != 7 || colour[0] != '#' {
		return 0, fmt.Errorf("%q is no colour in the form #rrggbb", colour)
	}
	var l float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			return 0, err
		}
		c := float64(v) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l, nil
}
