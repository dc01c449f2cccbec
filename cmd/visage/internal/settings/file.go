package settings

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// readConfig reads a configuration file: one level of keys, each a setting, each value a scalar or, where several are
// allowed, a list. The readable settings are returned together with the mistakes, so that mistakes in values are
// reported too.
func readConfig(path string) (map[string]source, error) {
	values := map[string]source{}
	b, err := os.ReadFile(path)
	if err != nil {
		return values, fmt.Errorf("configuration file: %w", err)
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return values, fmt.Errorf("%s: is not YAML: %s", path, first)
	}
	if len(file.Docs) > 1 {
		return values, fmt.Errorf("%s: has %d documents; allowed: one", path, len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return values, nil
	}
	top, ok := file.Docs[0].Body.(ast.MapNode)
	if !ok {
		return values, fmt.Errorf("%s: is not a list of settings, \"name: value\" in each line", path)
	}
	var mistakes []error
	for it := top.MapRange(); it.Next(); {
		key := it.Key().GetToken().Value
		place := fmt.Sprintf("%s:%d: %s", path, it.Key().GetToken().Position.Line, key)
		i := slices.IndexFunc(table, func(s setting) bool { return s.name == key })
		if i < 0 {
			mistakes = append(mistakes, fmt.Errorf("%s: unknown setting; allowed: %s", place, names()))
			continue
		}
		src := source{place: place}
		nodes := []ast.Node{it.Value()}
		if list, isList := it.Value().(*ast.SequenceNode); isList && table[i].list {
			nodes = list.Values
		}
		for _, n := range nodes {
			scalar, isScalar := n.(ast.ScalarNode)
			if _, isNull := n.(*ast.NullNode); !isScalar || isNull {
				mistakes = append(
					mistakes, fmt.Errorf("%s: is a %s; allowed: %s", place, strings.ToLower(n.Type().String()),
						table[i].allowed))
				continue
			}
			src.values = append(src.values, fmt.Sprint(scalar.GetValue()))
		}
		if len(src.values) > 0 {
			values[key] = src
		}
	}
	return values, errors.Join(mistakes...)
}

func names() string {
	var all []string
	for _, s := range table {
		all = append(all, s.name)
	}
	return strings.Join(all, ", ")
}
