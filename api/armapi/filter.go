package armapi

import (
	"strings"

	"github.com/visage-face/visage"
)

// filter is the condition in a $filter parameter, in the subset of OData 4.01 (Part 2, §5.1.1) that Azure Resource
// Manager documents: comparisons with eq and ne, startswith, endswith, contains and substringof, functions of a name
// and a text such as assignedTo('ID'), and, or, not, and parentheses. Comparisons ignore case.
type filter func(item facts) bool

// facts give a filter the properties of one item of a list.
type facts struct {
	// Of returns the values of a property, whose name is in lower case: none when the item lacks it, several for tags.
	of func(property string) []string
	// Call evaluates a function that is not a comparison; its name is in lower case. Required when the grammar has one.
	call func(function, argument string) bool
}

// grammar holds the properties and functions that the filter of one list may use, in lower case.
type grammar struct {
	code       string   // of refusals
	properties []string // of an item
	functions  []string // other than comparisons
	example    string
}

// Limits of filters. The longest filter of a known client has 300 characters and nests once.
const (
	longestFilter = 4096
	deepestFilter = 16
)

// parse parses a filter; an empty one matches every item.
func (g grammar) parse(text string) (filter, error) {
	if strings.TrimSpace(text) == "" {
		return func(facts) bool { return true }, nil
	}
	p := &filterParser{grammar: g}
	if len(text) > longestFilter || !p.split(text) {
		return nil, g.refuse()
	}
	f, ok := p.or(0)
	if !ok || len(p.rest) > 0 {
		return nil, g.refuse()
	}
	return f, nil
}

func (g grammar) refuse() error {
	return visage.Refuse(visage.Invalid, g.code, "The $filter cannot be read. It may compare %s, for example: %s.",
		strings.Join(append(append([]string{}, g.properties...), g.functions...), ", "), g.example)
}

// token is a word, a sign or a text of a filter.
type token struct {
	text   string
	quoted bool
}

type filterParser struct {
	grammar
	rest []token
}

// split splits a filter into tokens. It returns false for a text without a closing quote and for unknown signs.
func (p *filterParser) split(text string) bool {
	for text != "" {
		switch c := text[0]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			text = text[1:]
		case c == '(' || c == ')' || c == ',':
			p.rest = append(p.rest, token{text: text[:1]})
			text = text[1:]
		case c == '\'':
			value, rest, ok := quoted(text[1:])
			if !ok {
				return false
			}
			p.rest = append(p.rest, token{value, true})
			text = rest
		default:
			end := strings.IndexAny(text, " \t\r\n(),'")
			if end < 0 {
				end = len(text)
			}
			p.rest = append(p.rest, token{text: strings.ToLower(text[:end])})
			text = text[end:]
		}
	}
	return true
}

// quoted parses a text up to its closing quote; a quote within is doubled.
func quoted(text string) (value, rest string, ok bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "'")
		if !found {
			return "", "", false
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, "'") {
			return b.String(), after, true
		}
		b.WriteByte('\'')
		text = after[1:]
	}
}

// take consumes the next token if it is a given word or sign.
func (p *filterParser) take(text string) bool {
	if len(p.rest) == 0 || p.rest[0].quoted || p.rest[0].text != text {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *filterParser) next() (token, bool) {
	if len(p.rest) == 0 {
		return token{}, false
	}
	t := p.rest[0]
	p.rest = p.rest[1:]
	return t, true
}

func (p *filterParser) or(depth int) (filter, bool) {
	return p.chain(depth, "or", p.and, func(a, b filter) filter { return func(f facts) bool { return a(f) || b(f) } })
}

func (p *filterParser) and(depth int) (filter, bool) {
	return p.chain(depth, "and", p.one, func(a, b filter) filter { return func(f facts) bool { return a(f) && b(f) } })
}

// chain reads conditions with a word between them.
func (p *filterParser) chain(
	depth int, word string, part func(int) (filter, bool), join func(a, b filter) filter,
) (filter, bool) {
	all, ok := part(depth)
	for ok && p.take(word) {
		var more filter
		if more, ok = part(depth); ok {
			all = join(all, more)
		}
	}
	return all, ok
}

// one parses a condition without "and" or "or" outside parentheses.
func (p *filterParser) one(depth int) (filter, bool) {
	if depth > deepestFilter {
		return nil, false
	}
	if p.take("not") {
		inner, ok := p.one(depth + 1)
		return func(f facts) bool { return !inner(f) }, ok
	}
	if p.take("(") {
		inner, ok := p.or(depth + 1)
		return inner, ok && p.take(")")
	}
	name, ok := p.next()
	if !ok || name.quoted {
		return nil, false
	}
	if p.take("(") {
		return p.function(name.text)
	}
	return p.comparison(name.text)
}

func (p *filterParser) comparison(name string) (filter, bool) {
	different := p.take("ne")
	if !different && !p.take("eq") {
		return nil, false
	}
	value, ok := p.next()
	if !ok || !p.knows(name) || !value.quoted && strings.ContainsAny(value.text, "(),") {
		return nil, false
	}
	return func(f facts) bool {
		for _, v := range f.of(name) {
			if strings.EqualFold(v, value.text) {
				return !different
			}
		}
		return different
	}, true
}

func (p *filterParser) knows(property string) bool {
	for _, known := range p.properties {
		if strings.EqualFold(known, property) {
			return true
		}
	}
	return false
}

// comparisons are the functions of a property and a text, by name.
var comparisons = map[string]func(value, text string) bool{
	"startswith": strings.HasPrefix, "endswith": strings.HasSuffix, "contains": strings.Contains,
	"substringof": strings.Contains,
}

// function parses the rest of a function call after its opening parenthesis.
func (p *filterParser) function(name string) (filter, bool) {
	compare, comparing := comparisons[name]
	if !comparing {
		argument := token{quoted: true}
		if len(p.rest) > 0 && p.rest[0].quoted {
			argument, _ = p.next()
		}
		for _, known := range p.functions {
			if known, takes, _ := strings.Cut(known, "("); strings.EqualFold(known, name) &&
				(takes == ")") == (argument.text == "") {
				return func(f facts) bool { return f.call(name, argument.text) }, p.take(")")
			}
		}
		return nil, false
	}
	first, _ := p.next()
	comma := p.take(",")
	second, _ := p.next()
	if name == "substringof" { // its text comes first
		first, second = second, first
	}
	if !comma || first.quoted || !second.quoted || !p.knows(first.text) || !p.take(")") {
		return nil, false
	}
	text := strings.ToLower(second.text)
	return func(f facts) bool {
		for _, v := range f.of(first.text) {
			if compare(strings.ToLower(v), text) {
				return true
			}
		}
		return false
	}, true
}
