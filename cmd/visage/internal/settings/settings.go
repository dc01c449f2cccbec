// Package settings reads the settings of the server from flags, environment variables and a configuration file. One
// table lists them all.
package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/server"
)

// Settings are all settings, read and checked.
type Settings struct {
	Server    server.Config
	LogLevel  slog.Level
	LogFormat string // "text" or "json"
}

const env = "VISAGE_"

// configFlag is the flag that names the configuration file.
const configFlag = "config"

// value collects the values that a flag was given.
type value struct {
	setting
	given []string
}

// String implements pflag.Value.
func (v *value) String() string { return strings.Join(v.given, ",") }

// Set implements pflag.Value.
func (v *value) Set(s string) error {
	v.given = append(v.given, s)
	return nil
}

// Type implements pflag.Value.
func (v *value) Type() string {
	if v.boolean {
		return "bool"
	}
	return "string"
}

// Define adds --config and a flag for each setting, or only for the given ones.
func Define(fs *pflag.FlagSet, only ...string) {
	f := fs.VarPF(&value{}, configFlag, "", "configuration `FILE` in YAML, whose keys are the names of the settings")
	f.Annotations = map[string][]string{command.Setting: {}}
	for _, s := range table {
		if len(only) > 0 && !slices.Contains(only, s.name) {
			continue
		}
		f := fs.VarPF(&value{setting: s}, s.name, "", s.describe())
		f.Annotations = map[string][]string{command.Setting: {}}
		if s.boolean {
			f.NoOptDefVal = "true"
		}
	}
}

// describe describes a setting in one sentence for help and manual pages.
func (s setting) describe() string {
	text := s.usage
	if s.list {
		text += "; may be repeated"
	}
	return text
}

// Topic is the page of "visage help" about all settings.
func Topic() *cobra.Command {
	var b strings.Builder
	fmt.Fprintf(&b, "Settings. Each is the flag --NAME, the environment variable %sNAME, or a key of the YAML file "+
		"that\n"+
		"--config or %sCONFIG names; the first of these that is given wins.\n\n", env, env)
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.SortFlags = false // related settings are together in the table
	Define(fs)
	b.WriteString(fs.FlagUsagesWrapped(100))
	return command.Topic("settings", "The settings of the server, and where they are given", b.String())
}

// Load combines flags, environment and file. It reports all mistakes, each with its place and the allowed values.
func Load(fs *pflag.FlagSet) (*Settings, error) {
	c := &Settings{LogFormat: "text"}
	var mistakes []error
	from := map[string]source{}
	path := os.Getenv(env + "CONFIG")
	if given := flagOf(fs, configFlag); len(given) > 0 {
		path = given[len(given)-1]
	}
	if path != "" {
		values, err := readConfig(path)
		if err != nil {
			mistakes = append(mistakes, err)
		}
		from = values
	}
	mistakes = append(mistakes, unknownVariables()...)
	for _, s := range table {
		if v, set := os.LookupEnv(s.variable()); set {
			values := []string{v}
			if s.list {
				values = strings.Split(v, ",")
			}
			from[s.name] = source{place: s.variable(), values: values}
		}
		if values := flagOf(fs, s.name); values != nil {
			from[s.name] = source{place: "--" + s.name, values: values}
		}
		src, set := from[s.name]
		if !set {
			continue
		}
		if !s.list { // the same value twice is allowed; shells read the flags of a command line twice for completion
			src.values = slices.Compact(src.values)
		}
		if len(src.values) > 1 && !s.list {
			mistakes = append(mistakes, fmt.Errorf("%s: is given %d times; allowed: %s, once", src.place,
				len(src.values), s.allowed))
			continue
		}
		for _, v := range src.values {
			if err := s.set(c, v); err != nil {
				mistakes = append(mistakes, fmt.Errorf("%s: %w; allowed: %s", src.place, err, s.allowed))
			}
		}
	}
	mistakes = append(mistakes, c.Server.Validate())
	if err := errors.Join(mistakes...); err != nil {
		return nil, &command.Failure{Err: err, Code: command.ExitUsage,
			Hint: "\"visage help settings\" lists the settings"}
	}
	return c, nil
}

// Dir returns the directory of the server.
func Dir(fs *pflag.FlagSet) (string, error) {
	s, err := Load(fs)
	if err != nil {
		return "", err
	}
	return s.Dir()
}

// Dir returns the directory of the server, which has a default.
func (s *Settings) Dir() (string, error) {
	if s.Server.Dir != "" {
		return s.Server.Dir, nil
	}
	return server.DefaultDir()
}

// flagOf returns the values of a flag, or nil.
func flagOf(fs *pflag.FlagSet, name string) []string {
	if f := fs.Lookup(name); f != nil {
		if v, ok := f.Value.(*value); ok {
			return v.given
		}
	}
	return nil
}

// source is where a setting's values come from.
type source struct {
	place  string
	values []string
}

// unknownVariables finds variables with our prefix that name no setting: most likely typing errors.
func unknownVariables() []error {
	known := []string{env + "CONFIG"}
	for _, s := range table {
		known = append(known, s.variable())
	}
	// Variables that are not settings: SHARED names test material outside the source tree, and the completion scripts
	// of shells set the others.
	others := []string{env + "SHARED", env + "ACTIVE_HELP", env + "COMPLETION_DESCRIPTIONS"}
	var mistakes []error
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		// Secrets that settings refer to (root-key, passphrases) are in variables of the operator's choice, by
		// convention VISAGE_SECRET_….
		if !strings.HasPrefix(name, env) || strings.HasPrefix(name, env+"SECRET_") || slices.Contains(known, name) ||
			slices.Contains(others, name) {
			continue
		}
		mistakes = append(mistakes,
			fmt.Errorf("%s: unknown setting; allowed: %s; variables with secrets begin with %sSECRET_",
				name, strings.Join(known, ", "), env))
	}
	slices.SortFunc(mistakes, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return mistakes
}
