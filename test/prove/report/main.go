// Command report runs the proof, part by part, and writes the results to prove-out/report.json and
// prove-out/report.html: the tests, their durations, and their counts. It exits with 1 when a part fails, and with 2
// when it cannot run.
//
//	go run ./test/prove/report            all parts
//	go run ./test/prove/report crash leak those parts
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Part is a part of the proof: some tests, and what they prove.
type Part struct {
	Name, Proves string
	Runs         []Run
}

// Run is one call of go test.
type Run struct {
	Packages, Tests string   // packages are separated by blanks
	Env             []string // added to the environment unless set there
	Timeout         string   // default 10m
}

// Result is the result of a part.
type Result struct {
	Part   string
	Proves string
	Passed bool
	Took   time.Duration `json:"-"`
	// Seconds is Took in seconds, for readers of the file.
	Seconds float64
	Tests   []Test
}

// Test is the result of a top-level test.
type Test struct {
	Package, Name string
	Outcome       string // "pass", "fail" or "skip"
	Seconds       float64
	Subtests      int
	Counts        map[string]string
	Said          []string `json:",omitempty"` // the output of a test that failed or was skipped
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, only []string) (bool, error) {
	var names []string
	for _, p := range parts {
		names = append(names, p.Name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return false, fmt.Errorf("unknown part %q; known are %s", name, strings.Join(names, ", "))
		}
	}
	report := Report{Began: time.Now().UTC(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Passed: true}
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil {
		report.Version = strings.TrimSpace(string(out))
	}
	for _, p := range parts {
		if len(only) > 0 && !slices.Contains(only, p.Name) {
			continue
		}
		fmt.Printf("%-14s ... ", p.Name)
		result, err := prove(ctx, p)
		if err != nil {
			return false, fmt.Errorf("part %s: %w", p.Name, err)
		}
		report.Parts = append(report.Parts, result)
		report.Passed = report.Passed && result.Passed
		fmt.Printf("%s in %v\n", outcome(result.Passed), result.Took.Round(time.Second/10))
		for _, t := range result.Tests {
			tell(t)
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	report.Seconds = time.Since(report.Began).Seconds()
	return report.Passed, report.write("prove-out")
}

func outcome(passed bool) string {
	if passed {
		return "proved"
	}
	return "NOT PROVED"
}

// tell prints a test's counts, and its output if it did not pass.
func tell(t Test) {
	var counts []string
	for _, name := range sortedNames(t.Counts) {
		counts = append(counts, name+" "+t.Counts[name])
	}
	fmt.Printf("    %-4s %-40s %6.1fs  %s\n", t.Outcome, t.Name, t.Seconds, strings.Join(counts, ", "))
	for _, line := range t.Said {
		fmt.Println("        " + line)
	}
}

// prove runs the tests of a part. A part in which no test ran, or all were skipped, proves nothing and has failed.
func prove(ctx context.Context, p Part) (Result, error) {
	began := time.Now()
	result := Result{Part: p.Name, Proves: p.Proves, Passed: true}
	passed := 0
	for _, r := range p.Runs {
		tests, ok, err := r.run(ctx)
		if err != nil {
			return Result{}, err
		}
		for _, t := range tests {
			if t.Outcome == "pass" {
				passed++
			}
		}
		result.Passed = result.Passed && ok && len(tests) > 0
		result.Tests = append(result.Tests, tests...)
	}
	result.Passed = result.Passed && passed > 0
	result.Took = time.Since(began)
	result.Seconds = result.Took.Seconds()
	return result, nil
}

// event is a line of go test -json.
type event struct {
	Action, Package, Test, Output, Key, Value string
	Elapsed                                   float64
}

func (r Run) run(ctx context.Context) (tests []Test, ok bool, err error) {
	args := []string{"test", "-json", "-count", "1", "-timeout", cmp.Or(r.Timeout, "10m"), "-run", r.Tests}
	cmd := exec.CommandContext(ctx, "go", append(args, strings.Fields(r.Packages)...)...)
	cmd.Env = append(slices.Clone(r.Env), os.Environ()...) // the last value of a name counts
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, false, err
	}
	if err := cmd.Start(); err != nil {
		return nil, false, err
	}
	tests, loose, err := collect(out)
	if err != nil {
		return nil, false, errors.Join(err, cmd.Wait())
	}
	err = cmd.Wait()
	if _, exited := errors.AsType[*exec.ExitError](err); exited {
		if len(tests) == 0 || !slices.ContainsFunc(tests, func(t Test) bool { return t.Outcome == "fail" }) {
			tests = append(tests, Test{Package: r.Packages, Name: "(build)", Outcome: "fail", Said: loose})
		}
		return tests, false, nil
	}
	return tests, err == nil, err
}

// collect reads the output of go test. loose is the output outside of any test.
func collect(out io.Reader) (tests []Test, loose []string, err error) {
	byName := map[string]*Test{}
	said := map[string][]string{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			loose = append(loose, lines.Text())
			continue
		}
		top, inner, sub := strings.Cut(e.Test, "/")
		if top == "" {
			if e.Action == "output" || e.Action == "build-output" {
				loose = append(loose, strings.TrimRight(e.Output, "\n"))
			}
			continue
		}
		id := e.Package + " " + top
		t := byName[id]
		if t == nil {
			t = &Test{Package: e.Package, Name: top, Counts: map[string]string{}}
			byName[id] = t
		}
		switch e.Action {
		case "attr":
			t.Counts[strings.TrimSpace(inner+" "+strings.ReplaceAll(e.Key, "-", " "))] = e.Value
		case "output":
			said[id] = append(said[id], strings.TrimRight(e.Output, "\n"))
		case "pass", "fail", "skip":
			if sub {
				t.Subtests++
				continue
			}
			t.Outcome, t.Seconds = e.Action, e.Elapsed
		}
	}
	const most = 60 // lines of a test that did not pass
	for _, name := range sortedNames(byName) {
		t := byName[name]
		t.Outcome = cmp.Or(t.Outcome, "fail") // it never ended
		if all := said[name]; t.Outcome != "pass" {
			t.Said = all[max(0, len(all)-most):]
		}
		tests = append(tests, *t)
	}
	return tests, loose, lines.Err()
}

// write writes the report in both forms.
func (r Report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	page, err := os.Create(filepath.Join(dir, "report.html"))
	if err != nil {
		return err
	}
	defer page.Close()
	if err := html.Execute(page, r); err != nil {
		return err
	}
	fmt.Printf("%s; the report is in %s\n", outcome(r.Passed), filepath.Join(dir, "report.html"))
	return page.Close()
}
