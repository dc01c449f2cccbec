package visage_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// rejection is one refusal as the source writes it: what the page of refusals has a line for.
type rejection struct {
	room     string // the directory of the package that refuses
	status   string // the HTTP status as its name in visage or net/http: Invalid, StatusNotFound
	code     string // empty: the plane's own name for the status
	inner    string
	sentence string // with {names} where a request's or a record's values stand
	at       string // file:line
}

// function is a declared function or method, or a function literal that has a name because it was given to a variable.
type function struct {
	name   string
	params []string // the last one is variadic when rest
	rest   bool
	body   *ast.BlockStmt
	file   *source
	within *function // of a literal: where it stands
}

type source struct {
	name    string
	dir     string
	imports map[string]string // by local name: the directory of a package of the module, or the import path
}

// callSite is one call of a function, and the function that it stands in (nil: a package variable's value).
type callSite struct {
	call *ast.CallExpr
	in   *function
	file *source
}

// bindings say which of several possibilities is being read: by which call a function was entered, which statement gave
// a variable its value, which return statement ended a called function.
type bindings struct {
	entered  map[*function]*callSite
	assigned map[*ast.AssignStmt]bool
	returned map[*ast.CallExpr]*ast.ReturnStmt
	guessed  bool // methods of other types have the name too: the call may be of one of those
}

// undecided is the error of a value that depends on which possibility is read; the reader then reads each of them.
type undecided struct{ options []bindings }

func (undecided) Error() string { return "depends on the caller" }

// refusalReader finds the refusals of the module by reading its source, without types: what it cannot follow is an
// error, so that refusals are written such that a reader can follow them too.
type refusalReader struct {
	fset      *token.FileSet
	functions map[string][]*function // by directory and name
	calls     map[string][]*callSite // by directory and name of the callee
	consts    map[string]ast.Expr    // by directory and name: constants and variables of packages
	constFile map[string]*source
	fields    map[string][]ast.Expr // by directory and name: what the tables of a package give a field
	sites     []*callSite           // calls of visage.Refuse
	problems  []struct {
		lit  *ast.CompositeLit
		in   *function
		file *source
	}
	spoken []*function // methods that make a visage.Shortage, or a visage.Outage, of their type
	errs   []string
	depth  int // of the expression being read
}

func key(dir, name string) string { return dir + "\x00" + name }

// readRefusals reads the files of the module that the product is made of.
func readRefusals(t *testing.T) ([]rejection, []string) {
	t.Helper()
	r := &refusalReader{
		fset: token.NewFileSet(), functions: map[string][]*function{}, calls: map[string][]*callSite{},
		consts: map[string]ast.Expr{}, constFile: map[string]*source{},
		fields: map[string][]ast.Expr{},
	}
	for _, name := range sources(t, ".go") {
		slash := filepath.ToSlash(name)
		if strings.HasSuffix(name, "_test.go") || slices.Contains([]string{"test", "bench", "models", "tools"},
			strings.Split(slash, "/")[0]) {
			continue
		}
		f, err := parser.ParseFile(r.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		r.index(slash, f)
	}
	var found []rejection
	for _, site := range r.sites {
		r.expand(&found, site.file, site.call.Pos(), func(b bindings) ([]rejection, error) {
			return r.refusal(site, b)
		})
	}
	for _, p := range r.problems {
		r.expand(&found, p.file, p.lit.Pos(), func(b bindings) ([]rejection, error) {
			return r.problem(p.lit, p.in, p.file, b)
		})
	}
	for _, fn := range r.spoken {
		r.expand(&found, fn.file, fn.body.Pos(), func(b bindings) ([]rejection, error) { return r.speech(fn, b) })
	}
	slices.SortFunc(found, func(a, b rejection) int { return cmp.Compare(a.at, b.at) })
	return found, r.errs
}

// index notes the functions, the calls and the constants of a file.
func (r *refusalReader) index(name string, f *ast.File) {
	src := &source{name: name, dir: path.Dir(name), imports: map[string]string{}}
	for _, imp := range f.Imports {
		p, _ := strconv.Unquote(imp.Path.Value) // parsed: it is quoted
		local := path.Base(p)
		if imp.Name != nil {
			local = imp.Name.Name
		}
		if rest, ours := strings.CutPrefix(p, module); ours {
			p = cmp.Or(strings.TrimPrefix(rest, "/"), ".")
		}
		src.imports[local] = p
	}
	names := map[*ast.FuncLit]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == len(a.Rhs) {
			for i, rhs := range a.Rhs {
				lit, isLit := rhs.(*ast.FuncLit)
				if id, isName := a.Lhs[i].(*ast.Ident); isLit && isName {
					names[lit] = id.Name
				}
			}
		}
		return true
	})
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for i, id := range v.Names {
						if i < len(v.Values) {
							r.consts[key(src.dir, id.Name)], r.constFile[key(src.dir, id.Name)] = v.Values[i], src
						}
					}
				}
			}
			r.walk(d, nil, src, names)
		case *ast.FuncDecl:
			if d.Body == nil {
				continue
			}
			fn := newFunction(d.Name.Name, d.Type, d.Body, src, nil)
			r.functions[key(src.dir, fn.name)] = append(r.functions[key(src.dir, fn.name)], fn)
			if _, ok := speeches[fn.name]; ok {
				r.spoken = append(r.spoken, fn)
			}
			r.walk(d.Body, fn, src, names)
		}
	}
}

func newFunction(name string, typ *ast.FuncType, body *ast.BlockStmt, file *source, within *function) *function {
	fn := &function{name: name, body: body, file: file, within: within}
	for _, field := range typ.Params.List {
		_, fn.rest = field.Type.(*ast.Ellipsis)
		for _, id := range field.Names {
			fn.params = append(fn.params, id.Name)
		}
	}
	return fn
}

func (r *refusalReader) walk(n ast.Node, in *function, src *source, names map[*ast.FuncLit]string) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			fn := newFunction(names[n], n.Type, n.Body, src, in)
			if fn.name != "" {
				r.functions[key(src.dir, fn.name)] = append(r.functions[key(src.dir, fn.name)], fn)
			}
			r.walk(n.Body, fn, src, names)
			return false
		case *ast.CallExpr:
			site := &callSite{n, in, src}
			switch f := n.Fun.(type) {
			case *ast.Ident:
				r.calls[key(src.dir, f.Name)] = append(r.calls[key(src.dir, f.Name)], site)
				if src.dir == "." && f.Name == "Refuse" {
					r.sites = append(r.sites, site)
				}
			case *ast.SelectorExpr:
				dir := src.dir
				if x, ok := f.X.(*ast.Ident); ok && src.imports[x.Name] != "" {
					dir = src.imports[x.Name]
				}
				r.calls[key(dir, f.Sel.Name)] = append(r.calls[key(dir, f.Sel.Name)], site)
				if dir == "." && src.dir != "." && f.Sel.Name == "Refuse" {
					r.sites = append(r.sites, site)
				}
			}
		case *ast.KeyValueExpr:
			if id, named := n.Key.(*ast.Ident); named && in == nil {
				r.fields[key(src.dir, id.Name)] = append(r.fields[key(src.dir, id.Name)], n.Value)
			}
		case *ast.CompositeLit:
			if typ, ok := n.Type.(*ast.Ident); ok && typ.Name == "Problem" && src.dir == "api" {
				r.problems = append(r.problems, struct {
					lit  *ast.CompositeLit
					in   *function
					file *source
				}{n, in, src})
			}
			if typ, ok := n.Type.(*ast.SelectorExpr); ok && typ.Sel.Name == "Problem" {
				r.problems = append(r.problems, struct {
					lit  *ast.CompositeLit
					in   *function
					file *source
				}{n, in, src})
			}
		}
		return true
	})
}

// expand reads a refusal under every possibility that it depends on.
func (r *refusalReader) expand(found *[]rejection, file *source, pos token.Pos,
	read func(bindings) ([]rejection, error)) {
	at := fmt.Sprintf("%s:%d", file.name, r.fset.Position(pos).Line)
	todo := []bindings{{}}
	for steps := 0; len(todo) > 0; steps++ {
		if steps > 20_000 {
			r.errs = append(r.errs, at+": depends on too much")
			return
		}
		b := todo[0]
		todo = todo[1:]
		got, err := read(b)
		if open, ok := err.(undecided); ok {
			todo = append(todo, open.options...)
			continue
		}
		if err != nil && b.guessed {
			continue
		}
		if err != nil {
			r.errs = append(r.errs, fmt.Sprintf("%s: %v", at, err))
			continue
		}
		for i := range got {
			got[i].room, got[i].at = file.dir, at
		}
		for _, one := range got {
			if !slices.Contains(*found, one) {
				*found = append(*found, one)
			}
		}
	}
}

func (r *refusalReader) refusal(site *callSite, b bindings) ([]rejection, error) {
	args := site.call.Args
	if len(args) < 3 {
		return nil, fmt.Errorf("a refusal needs a kind, a code and a sentence")
	}
	v := value{r, b, site.in, site.file}
	kinds, err := v.kinds(args[0])
	if err != nil {
		return nil, err
	}
	codes, err := v.text(args[1], "")
	if err != nil {
		return nil, err
	}
	inners, err := r.inner(site, b)
	if err != nil {
		return nil, err
	}
	sentences, err := v.sentence(args[2:], site.call.Ellipsis.IsValid())
	if err != nil {
		return nil, err
	}
	return combine(kinds, codes, inners, sentences)
}

// combine makes a rejection of each combination; those that only repeat another refusal's words are left out.
func combine(statuses, codes, inners, sentences []string) ([]rejection, error) {
	var all []rejection
	for _, status := range statuses {
		for _, code := range codes {
			for _, inner := range inners {
				for _, s := range sentences {
					if strings.Contains(s, "{message}") && bare.ReplaceAllString(s, "") == "" {
						continue // another refusal's sentence
					}
					if bare.ReplaceAllString(s, "") == "" || code != "" && bare.ReplaceAllString(code, "") == "" {
						return nil, fmt.Errorf("cannot read the code %q with the sentence %q: write them as constants",
							code, s)
					}
					all = append(all, rejection{status: status, code: code, inner: inner, sentence: s})
				}
			}
		}
	}
	return all, nil
}

var bare = regexp.MustCompile(`\{[^}]*\}`)

// inner finds what the function that refuses assigns as the inner code of the refusal.
func (r *refusalReader) inner(site *callSite, b bindings) ([]string, error) {
	if site.in == nil {
		return []string{""}, nil
	}
	var to ast.Expr
	ast.Inspect(site.in.body, func(n ast.Node) bool {
		a, ok := n.(*ast.AssignStmt)
		if !ok || len(a.Lhs) != 1 {
			return true
		}
		if sel, ok := a.Lhs[0].(*ast.SelectorExpr); ok && sel.Sel.Name == "InnerCode" {
			to = a.Rhs[0]
		}
		return true
	})
	if to == nil {
		return []string{""}, nil
	}
	return value{r, b, site.in, site.file}.text(to, "inner")
}

// problem reads an answer that no kind of refusal has a status for.
func (r *refusalReader) problem(lit *ast.CompositeLit, in *function, file *source, b bindings) ([]rejection, error) {
	v := value{r, b, in, file}
	fields := map[string]ast.Expr{}
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			fields[kv.Key.(*ast.Ident).Name] = kv.Value
		}
	}
	if fields["Message"] == nil {
		return nil, nil
	}
	sentences, err := v.text(fields["Message"], "message")
	if err != nil || slices.Equal(sentences, []string{"{message}"}) {
		return nil, err // nothing, or another refusal's sentence
	}
	statuses, err := v.kinds(fields["Status"])
	if err != nil {
		return nil, err
	}
	codes := []string{""}
	if fields["Code"] != nil {
		if codes, err = v.text(fields["Code"], ""); err != nil {
			return nil, err
		}
	}
	return combine(statuses, codes, []string{""}, sentences)
}

// speeches has, by the names of methods that return sentences for callers, the status and the code of all of them.
var speeches = map[string][2]string{
	"Shortage": {"StatusInsufficientStorage", "InsufficientStorage"},
	"Outage":   {"StatusServiceUnavailable", "ServiceUnavailable"},
}

// speech reads the sentences of a visage.Shortage or a visage.Outage.
func (r *refusalReader) speech(fn *function, b bindings) ([]rejection, error) {
	var sentences []string
	var failed error
	ast.Inspect(fn.body, func(n ast.Node) bool {
		if ret, ok := n.(*ast.ReturnStmt); ok && failed == nil {
			var got []string
			got, failed = value{r, b, fn, fn.file}.text(ret.Results[0], "")
			sentences = append(sentences, got...)
		}
		return true
	})
	if failed != nil {
		return nil, failed
	}
	means := speeches[fn.name]
	return combine(means[:1], means[1:], []string{""}, sentences)
}

// value reads expressions in a function, under bindings.
type value struct {
	r    *refusalReader
	b    bindings
	in   *function
	file *source
}

func (v value) kinds(e ast.Expr) ([]string, error) {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return []string{e.Sel.Name}, nil
	case *ast.Ident:
		if v.file.dir == "." && e.Name != "kind" || v.file.dir == "api" && strings.HasPrefix(e.Name, "status") {
			return []string{e.Name}, nil
		}
		return resolve(v, e, value.kinds)
	}
	return nil, fmt.Errorf("cannot read the kind of the refusal")
}

// resolve reads the variable or parameter that a name stands for.
func resolve(v value, id *ast.Ident, read func(value, ast.Expr) ([]string, error)) ([]string, error) {
	for fn := v.in; fn != nil; fn = fn.within {
		if i := slices.Index(fn.params, id.Name); i >= 0 {
			arg, at, err := v.argument(fn, i)
			if err != nil {
				return nil, err
			}
			return read(at, arg)
		}
		exprs, err := v.assigned(fn, id.Name)
		if err != nil {
			return nil, err
		}
		if len(exprs) == 0 {
			continue
		}
		var all []string
		for _, x := range exprs {
			got, err := read(value{v.r, v.b, fn, v.file}, x)
			if err != nil {
				return nil, err
			}
			all = append(all, got...)
		}
		return unique(all), nil
	}
	if c := v.r.consts[key(v.file.dir, id.Name)]; c != nil {
		return read(value{v.r, v.b, nil, v.r.constFile[key(v.file.dir, id.Name)]}, c)
	}
	return nil, errOpaque
}

// deepest bounds how far a value is followed through variables and callers.
const deepest = 16

var errOpaque = fmt.Errorf("cannot be read from the source")

func unique(all []string) []string {
	var out []string
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// argument returns what a function's parameter was given, by the call that the bindings say.
func (v value) argument(fn *function, i int) (ast.Expr, value, error) {
	site := v.b.entered[fn]
	if site == nil {
		var open undecided
		namesakes := len(v.r.functions[key(fn.file.dir, fn.name)])
		for _, c := range v.r.calls[key(fn.file.dir, fn.name)] {
			if fn.within != nil && !standsIn(c.in, fn.within) || c.in == fn || !fn.takes(c.call) {
				continue
			}
			b := bindings{map[*function]*callSite{fn: c}, v.b.assigned, v.b.returned, v.b.guessed || namesakes > 1}
			for f, s := range v.b.entered {
				b.entered[f] = s
			}
			open.options = append(open.options, b)
		}
		if len(open.options) == 0 {
			return nil, v, errOpaque
		}
		return nil, v, open
	}
	if i >= len(site.call.Args) {
		return nil, v, errOpaque
	}
	return site.call.Args[i], value{v.r, v.b, site.in, site.file}, nil
}

// takes says whether a call has as many arguments as the function has parameters: methods of one name differ in that.
func (fn *function) takes(call *ast.CallExpr) bool {
	if fn.rest {
		return len(call.Args) >= len(fn.params)-1
	}
	return len(call.Args) == len(fn.params)
}

func standsIn(fn, outer *function) bool {
	for ; fn != nil; fn = fn.within {
		if fn == outer {
			return true
		}
	}
	return false
}

// assigned returns what a function gives a variable. A statement that gives several variables their values is a
// possibility of its own, so that a code stays with its sentence.
func (v value) assigned(fn *function, name string) ([]ast.Expr, error) {
	var exprs []ast.Expr
	var together []*ast.AssignStmt
	var chosen ast.Expr
	ast.Inspect(fn.body, func(n ast.Node) bool {
		if vs, ok := n.(*ast.ValueSpec); ok {
			for i, id := range vs.Names {
				if id.Name == name && i < len(vs.Values) {
					exprs = append(exprs, vs.Values[i])
				}
			}
		}
		if rg, ok := n.(*ast.RangeStmt); ok {
			if id, is := rg.Value.(*ast.Ident); is && id.Name == name {
				exprs = append(exprs, &ast.IndexExpr{X: rg.X})
			}
		}
		a, ok := n.(*ast.AssignStmt)
		if !ok {
			return true
		}
		for i, lhs := range a.Lhs {
			if id, is := lhs.(*ast.Ident); !is || id.Name != name {
				continue
			}
			switch {
			case len(a.Lhs) != len(a.Rhs):
				exprs = append(exprs, &nth{a.Rhs[0], i})
			case len(a.Lhs) > 1:
				together = append(together, a)
				if v.b.assigned[a] {
					chosen = a.Rhs[i]
				}
				exprs = append(exprs, a.Rhs[i])
			default:
				exprs = append(exprs, a.Rhs[i])
			}
		}
		return true
	})
	if chosen != nil {
		return []ast.Expr{chosen}, nil
	}
	if len(together) > 1 {
		var open undecided
		for _, a := range together {
			b := bindings{v.b.entered, map[*ast.AssignStmt]bool{a: true}, v.b.returned, v.b.guessed}
			for s := range v.b.assigned {
				b.assigned[s] = true
			}
			open.options = append(open.options, b)
		}
		return nil, open
	}
	return exprs, nil
}

// nth is one of the results of a call.
type nth struct {
	ast.Expr
	i int
}

// text reads a string: each of the texts that it may be, with {label} for what only the running program knows.
func (v value) text(e ast.Expr, label string) ([]string, error) {
	got, err := v.literal(e, label)
	if err == errOpaque {
		return []string{"{" + cmp.Or(label, nameOf(e)) + "}"}, nil
	}
	return got, err
}

func (v value) literal(e ast.Expr, label string) ([]string, error) {
	v.r.depth++
	defer func() { v.r.depth-- }()
	if v.r.depth > deepest {
		return nil, errOpaque // a variable that is made of itself
	}
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, err := strconv.Unquote(e.Value)
			return []string{s}, err
		}
		return []string{strings.ReplaceAll(e.Value, "_", "")}, nil
	case *ast.ParenExpr:
		return v.literal(e.X, label)
	case *ast.BinaryExpr:
		return v.binary(e, label)
	case *ast.Ident:
		return resolve(v, e, func(v value, x ast.Expr) ([]string, error) { return v.literal(x, label) })
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok && v.file.imports[x.Name] != "" {
			k := key(v.file.imports[x.Name], e.Sel.Name)
			if c := v.r.consts[k]; c != nil {
				return value{v.r, v.b, nil, v.r.constFile[k]}.literal(c, label)
			}
		}
		if e.Sel.Name == "Message" || e.Sel.Name == "Code" {
			return []string{"{message}"}, nil
		}
		if label == "" {
			return v.field(e.Sel.Name)
		}
	case *ast.IndexExpr:
		return v.elements(e, label)
	case *nth:
		switch x := e.Expr.(type) {
		case *ast.CallExpr:
			return v.result(x, e.i, label)
		case *ast.IndexExpr:
			if e.i == 0 {
				return v.elements(x, label)
			}
		}
	case *ast.CallExpr:
		if sel, ok := e.Fun.(*ast.SelectorExpr); ok {
			if x, is := sel.X.(*ast.Ident); is && x.Name == "fmt" && sel.Sel.Name == "Sprintf" {
				return v.sentence(e.Args, e.Ellipsis.IsValid())
			}
		}
		return v.result(e, 0, label)
	}
	return nil, errOpaque
}

// field reads the texts that a field has in the tables of the package.
func (v value) field(name string) ([]string, error) {
	var all []string
	for _, x := range v.r.fields[key(v.file.dir, name)] {
		if got, err := v.literal(x, ""); err == nil {
			all = append(all, got...)
		}
	}
	if len(all) == 0 {
		return nil, errOpaque
	}
	return unique(all), nil
}

// binary reads a sum of texts, and the arithmetic of limits.
func (v value) binary(e *ast.BinaryExpr, label string) ([]string, error) {
	left, err := v.text(e.X, "")
	if err != nil {
		return nil, err
	}
	right, err := v.text(e.Y, "")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, l := range left {
		for _, r := range right {
			a, aerr := strconv.Atoi(l)
			b, berr := strconv.Atoi(r)
			switch {
			case e.Op == token.ADD && (aerr != nil || berr != nil):
				all = append(all, l+r)
			case aerr != nil || berr != nil:
				return nil, errOpaque
			case e.Op == token.ADD:
				all = append(all, strconv.Itoa(a+b))
			case e.Op == token.SUB:
				all = append(all, strconv.Itoa(a-b))
			case e.Op == token.MUL:
				all = append(all, strconv.Itoa(a*b))
			case e.Op == token.QUO && b != 0:
				all = append(all, strconv.Itoa(a/b))
			case e.Op == token.SHL:
				all = append(all, strconv.Itoa(a<<b))
			default:
				return nil, errOpaque
			}
		}
	}
	return all, nil
}

// elements reads the values of a map or a slice that is written out.
func (v value) elements(e *ast.IndexExpr, label string) ([]string, error) {
	base := e.X
	if id, ok := base.(*ast.Ident); ok {
		base = v.r.consts[key(v.file.dir, id.Name)]
		if v.in != nil {
			if exprs, err := v.assigned(v.in, id.Name); err == nil && len(exprs) == 1 {
				base = exprs[0]
			}
		}
	}
	lit, ok := base.(*ast.CompositeLit)
	if !ok {
		return nil, errOpaque
	}
	var all []string
	for _, x := range lit.Elts {
		if kv, is := x.(*ast.KeyValueExpr); is {
			x = kv.Value
		}
		got, err := v.literal(x, label)
		if err != nil {
			return nil, err
		}
		all = append(all, got...)
	}
	return unique(all), nil
}

// result reads what a function of the same package returns, when it returns texts that are written out.
func (v value) result(call *ast.CallExpr, i int, label string) ([]string, error) {
	id, ok := call.Fun.(*ast.Ident)
	if !ok {
		return nil, errOpaque
	}
	fns := v.r.functions[key(v.file.dir, id.Name)]
	if len(fns) != 1 {
		return nil, errOpaque
	}
	fn := fns[0]
	b := bindings{map[*function]*callSite{}, v.b.assigned, v.b.returned, v.b.guessed}
	for f, s := range v.b.entered {
		b.entered[f] = s
	}
	b.entered[fn] = &callSite{call, v.in, v.file}
	inside := value{v.r, b, fn, fn.file}
	if ret := v.b.returned[call]; ret != nil {
		return inside.literal(ret.Results[i], label)
	}
	var open undecided
	texts := false
	ast.Inspect(fn.body, func(n ast.Node) bool {
		if _, lit := n.(*ast.FuncLit); lit {
			return false
		}
		ret, ok := n.(*ast.ReturnStmt)
		if !ok || i >= len(ret.Results) {
			return true
		}
		if lit, is := ret.Results[i].(*ast.BasicLit); is && lit.Value == `""` {
			return true // nothing to refuse
		}
		if got, err := inside.literal(ret.Results[i], label); err != nil || len(got) == 0 {
			return true
		}
		texts = true
		nb := bindings{v.b.entered, v.b.assigned, map[*ast.CallExpr]*ast.ReturnStmt{call: ret}, v.b.guessed}
		for c, s := range v.b.returned {
			nb.returned[c] = s
		}
		open.options = append(open.options, nb)
		return true
	})
	if !texts {
		return nil, errOpaque
	}
	return nil, open
}

var verb = regexp.MustCompile(`%[-+# 0]*[\d*]*(?:\.\d+)?(?:\[\d+\])?[a-zA-Z%]`)

// sentence reads a format with its arguments.
func (v value) sentence(args []ast.Expr, spread bool) ([]string, error) {
	formats, err := v.text(args[0], "")
	if err != nil {
		return nil, err
	}
	args = args[1:]
	if len(args) == 1 && !spread && slices.Equal(formats, []string{"%s"}) {
		return v.text(args[0], "")
	}
	at := v
	if spread && len(args) == 1 {
		if id, ok := args[0].(*ast.Ident); ok {
			for fn := v.in; fn != nil; fn = fn.within {
				i := slices.Index(fn.params, id.Name)
				if i < 0 {
					continue
				}
				if _, _, err := v.argument(fn, i); err != nil && err != errOpaque {
					return nil, err
				}
				if site := v.b.entered[fn]; site != nil {
					args, at = site.call.Args[i:], value{v.r, v.b, site.in, site.file}
					if site.call.Ellipsis.IsValid() {
						return at.sentence(append([]ast.Expr{quoted(formats[0])}, args...), true)
					}
				}
				break
			}
		}
	}
	var all []string
	for _, format := range formats {
		got, err := at.fill(format, args)
		if err != nil {
			return nil, err
		}
		all = append(all, got...)
	}
	return unique(all), nil
}

var word = regexp.MustCompile(`^([a-z]+|[A-Z]+(-[A-Z]+)?|\W)$`)

func isName(e ast.Expr) bool {
	_, ok := e.(*ast.Ident)
	return ok
}

func quoted(s string) ast.Expr { return &ast.BasicLit{Kind: token.STRING, Value: strconv.Quote(s)} }

// fill puts the arguments' texts, or their names, in the places of a format.
func (v value) fill(format string, args []ast.Expr) ([]string, error) {
	out := []string{""}
	add := func(texts ...string) {
		var next []string
		for _, o := range out {
			for _, t := range texts {
				next = append(next, o+t)
			}
		}
		out = next
	}
	n := 0
	for {
		loc := verb.FindStringIndex(format)
		if loc == nil {
			add(format)
			return out, nil
		}
		add(format[:loc[0]])
		what := format[loc[0]:loc[1]]
		format = format[loc[1]:]
		if what == "%%" {
			add("%")
			continue
		}
		if open := strings.IndexByte(what, '['); open >= 0 {
			n, _ = strconv.Atoi(what[open+1 : strings.IndexByte(what, ']')]) // the pattern has digits there
			n--
		}
		if n >= len(args) {
			return nil, fmt.Errorf("the sentence has more places than arguments")
		}
		arg := args[n]
		n++
		switch what[len(what)-1] {
		case 'q':
			add(`"{` + nameOf(arg) + `}"`)
		case 'd', 's', 'v':
			texts, err := v.text(arg, nameOf(arg))
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(texts, func(s string) bool { return word.MatchString(s) }) && isName(arg) {
				texts = []string{"{" + nameOf(arg) + "}"} // one line for every word that can stand there
			}
			add(texts...)
		default:
			add("{" + nameOf(arg) + "}")
		}
	}
}

// nameOf is what stands in a sentence's template for a value that only the running program knows.
func nameOf(e ast.Expr) string {
	name := "value"
	switch e := e.(type) {
	case *ast.Ident:
		name = e.Name
	case *ast.SelectorExpr:
		name = e.Sel.Name
	case *ast.StarExpr:
		return nameOf(e.X)
	case *ast.IndexExpr:
		return nameOf(e.X)
	case *ast.BinaryExpr:
		return nameOf(e.X)
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.SelectorExpr); ok && len(e.Args) == 0 {
			if _, is := f.X.(*ast.Ident); is && f.Sel.Name != "String" && f.Sel.Name != "Name" {
				return nameOf(f)
			}
			return nameOf(f.X)
		}
		if f, ok := e.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Format" {
			return "time"
		}
		if len(e.Args) > 0 {
			if f, ok := e.Fun.(*ast.Ident); ok && f.Name == "len" {
				return "number"
			}
			return nameOf(e.Args[0])
		}
		return nameOf(e.Fun)
	}
	if initials := strings.IndexFunc(name, unicode.IsLower); initials < 0 || initials > 1 {
		if initials < 0 {
			initials = len(name) + 1
		}
		return strings.ToLower(name[:initials-1]) + name[initials-1:] // ID, RSAKey
	}
	return strings.ToLower(name[:1]) + name[1:]
}
