package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// monitoring is the folder of the dashboard and the alerts.
const monitoring = "../docs/operations/monitoring"

// expressions returns the queries of the dashboard and the alerts, by where they are.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	add := func(where, expr string) {
		if expr == "" || all[where] != "" {
			t.Errorf("%s has no query, or there are two of that name", where)
		}
		all[where] = expr
	}
	var dashboard struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr, RefID string }
		}
		Templating struct {
			List []struct{ Name string }
		}
	}
	if err := json.Unmarshal(readFile(t, monitoring, "grafana-dashboard.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if (len(p.Targets) == 0) != (p.Type == "row") {
			t.Errorf("panel %q has %d queries", p.Title, len(p.Targets))
		}
		for _, q := range p.Targets {
			add("panel "+p.Title+" "+q.RefID, q.Expr)
		}
	}
	if len(dashboard.Templating.List) != 3 {
		t.Errorf("variables: %v", dashboard.Templating.List)
	}
	var alerts struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	err := yaml.UnmarshalWithOptions(readFile(t, monitoring, "prometheus-alerts.yaml"), &alerts, yaml.Strict())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			add("alert "+r.Alert, r.Expr)
			if s := r.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("alert %s has the severity %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("alert %s does not say what has happened and what to do", r.Alert)
			}
			if r.For != "" && !regexp.MustCompile(`^[1-9][0-9]*[mhd]$`).MatchString(r.For) {
				t.Errorf("alert %s waits for %q", r.Alert, r.For)
			}
		}
	}
	if len(all) < 50 {
		t.Errorf("found only %d queries", len(all))
	}
	return all
}

func readFile(t *testing.T, elements ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// exported is what a server exports: the values of every label of every metric.
type exported map[string]map[string][]string

var (
	seriesLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? [^ ]+$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// export reads the page with the metrics of a server.
func export(t *testing.T, s *servertest.Server) exported {
	t.Helper()
	status, page := call(t, s, http.MethodGet, "/metrics", "", nil)
	if status != http.StatusOK {
		t.Fatalf("metrics: %d", status)
	}
	all := exported{}
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := seriesLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("no series: %q", line)
		}
		labels := all[m[1]]
		if labels == nil {
			labels = map[string][]string{}
			all[m[1]] = labels
		}
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			labels[pair[1]] = append(labels[pair[1]], pair[2])
		}
	}
	return all
}

// ofPrometheus are labels that Prometheus adds to every series it collects.
var ofPrometheus = []string{"job", "instance"}

// openLabels are labels whose values cannot all be there: what has not happened yet has none.
var openLabels = []string{"status", "route", "pack", "model"}

// words of the query language that are neither metrics nor labels.
var (
	functions = []string{
		"abs", "rate", "increase", "sum", "min", "max", "topk", "time", "histogram_quantile", "predict_linear",
	}
	operators = []string{"and", "or", "unless", "bool"}
	groupings = []string{"by", "without", "on", "ignoring"}
)

// token finds the next word, text, number with its unit, or sign of a query.
var token = regexp.MustCompile(`^\s*(?:([a-zA-Z_:][a-zA-Z0-9_:]*)|"((?:[^"\\]|\\.)*)"|([0-9][0-9.]*[smhd]?)|` +
	`(=~|!~|!=|==|<=|>=|[-+*/<>=(){}\[\],]))`)

// names checks that a query uses nothing but metrics, labels and values that are exported. It knows the parts of the
// language that our queries use, and refuses everything else.
func (all exported) names(expr string) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	type piece struct{ word, text, sign string }
	var pieces []piece
	for rest := expr; strings.TrimSpace(rest) != ""; {
		m := token.FindStringSubmatch(rest)
		if m == nil {
			return append(problems, fmt.Sprintf("not read from %q on", rest))
		}
		rest = rest[len(m[0]):]
		pieces = append(pieces, piece{m[1], m[2], m[4]})
	}
	at := func(i int) piece {
		if i < len(pieces) {
			return pieces[i]
		}
		return piece{}
	}
	var metrics, grouped []string
	for i := 0; i < len(pieces); i++ {
		word := pieces[i].word
		switch {
		case word == "", slices.Contains(operators, word):
		case slices.Contains(groupings, word):
			for i += 2; i < len(pieces) && at(i).sign != ")"; i++ {
				if w := at(i).word; w != "" {
					grouped = append(grouped, w)
				}
			}
		case at(i+1).sign == "(" || slices.Contains(groupings, at(i+1).word):
			if !slices.Contains(functions, word) {
				problem("function %s is not known", word)
			}
		default:
			metrics = append(metrics, word)
			labels, exists := all[word]
			if !exists && word != "up" {
				problem("metric %s is not exported", word)
			}
			if at(i+1).sign != "{" {
				continue
			}
			for i += 2; i < len(pieces) && at(i).sign != "}"; i += 3 {
				if at(i).sign == "," {
					i++
				}
				label, compare, value := at(i).word, at(i+1).sign, at(i+2).text
				values, has := labels[label]
				switch {
				case slices.Contains(ofPrometheus, label):
					continue
				case !has:
					problem("metric %s has no label %q", word, label)
				case slices.Contains(openLabels, label):
				case compare == "=" || compare == "!=":
					if !slices.Contains(values, value) {
						problem("label %s of %s is never %q", label, word, value)
					}
				case compare == "=~":
					for alternative := range strings.SplitSeq(value, "|") {
						if !slices.Contains(values, alternative) {
							problem("label %s of %s is never %q", label, word, alternative)
						}
					}
				}
			}
		}
	}
	if len(metrics) == 0 {
		problem("it names no metric")
	}
	for _, label := range grouped {
		known := slices.Contains(ofPrometheus, label) ||
			slices.ContainsFunc(metrics, func(m string) bool { return all[m][label] != nil })
		if !known {
			problem("no metric of it has the label %s", label)
		}
	}
	return problems
}

// TestMonitoringNamesMetrics wants every metric and label in the dashboard and the alerts to be exported by a server
// that has answered requests.
func TestMonitoringNamesMetrics(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	detect(t, s, s.Key)
	call(t, s, http.MethodGet, "/face/v1.2/facelists", strings.Repeat("0", 32), nil)
	all := export(t, s)
	page := string(readFile(t, monitoring+".md"))
	for name := range all {
		name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		listed := strings.Contains(page, "`"+name+"`") || strings.HasPrefix(name, "visage_api_inner_")
		if strings.HasPrefix(name, "visage_") && !listed {
			t.Errorf("docs/operations/monitoring.md does not list %s", name)
		}
	}
	for where, expr := range expressions(t) {
		for _, problem := range all.names(instantiate(expr)) {
			t.Errorf("%s: %s, in %s", where, problem, expr)
		}
	}
	for expr, want := range map[string]string{ // the check must be able to fail
		`visage_nothing`:                                          "not exported",
		`sum(rate(up[5m])) %`:                                     "not read",
		`visage_custody_resources{stat="revoked"}`:                "no label",
		`visage_custody_resources{state="revokd"}`:                "never",
		`visage_custody_resources{state=~"revoked|lock"}`:         "never",
		`sum by (classes) (rate(visage_custody_polls_total[5m]))`: "has the label",
		`summ(visage_custody_resources)`:                          "function",
		`1 + 1`:                                                   "names no metric",
	} {
		if got := strings.Join(all.names(expr), "; "); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

// TestBackupsAreCounted takes a backup of a running server.
func TestBackupsAreCounted(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	take := func() *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/subscriptions/"+
			s.Operator().SubscriptionID+"/providers/Visage.Operations/backup?api-version=2025-09-01", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.Token(t, "https://management.azure.com"))
		res, err := s.Client.Do(req)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("take a backup: %v, %v", res, err)
		}
		return res
	}
	res := take()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	_, page := call(t, s, http.MethodGet, "/metrics", "", nil)
	for _, want := range []string{`operation="backup",outcome="complete"} 1`, `operation="backup",outcome="failed"} 0`,
		`operation="keyring-export",outcome="complete"} 0`} {
		if !strings.Contains(page, "visage_server_backups_total{"+want) {
			t.Errorf("after a backup, %s is not there", want)
		}
	}
}

// instantiate puts values in place of a dashboard's variables.
func instantiate(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$job", "visage", "$instance", ".+").Replace(expr)
}

// TestMonitoringParses has Prometheus' own checker read the alerts, and every query of the dashboard as a rule.
func TestMonitoringParses(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not here; Debian's package prometheus has it")
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for where, expr := range expressions(t) {
		name := regexp.MustCompile(`[^a-z]+`).ReplaceAllString(strings.ToLower(where), "_")
		fmt.Fprintf(&rules, "  - record: %s\n    expr: %q\n", name, instantiate(expr))
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(monitoring, "prometheus-alerts.yaml"), file} {
		if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
