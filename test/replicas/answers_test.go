//go:build linux

package replicas_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// answers counts the answers of replicas that had trouble, and keeps those that no contract has. It is safe for
// concurrent use.
type answers struct {
	mu     sync.Mutex
	counts map[string]int // by status and code
	wrong  map[string]int // by text
}

func newAnswers() *answers { return &answers{counts: map[string]int{}, wrong: map[string]int{}} }

// internals are words that belong into the log: of the system, of the database, of the code.
var internals = regexp.MustCompile(`/dev/|/tmp/|SQLSTATE|PostgreSQL|pgx|pg_|dial |syscall|errno|goroutine|\.go:|` +
	`[Ii]nput/output error|[Rr]ead-only file system|[Nn]o space left|[Nn]o such file|[Cc]onnection (reset|refused)`)

// hear notes an answer. A replica that has trouble says 503 and when to come again, or 507 if a disk is full, with the
// code of that and a sentence; it never fails with 500.
func (h *answers) hear(method, path string, a answer) {
	if a.status < 400 || a.status < 500 && !internals.Match(a.body) {
		return
	}
	code, sentence := problemOf(a.body)
	why := ""
	switch {
	case internals.Match(a.body):
		why = "it shows internals"
	case a.status != http.StatusServiceUnavailable && a.status != http.StatusInsufficientStorage:
		why = "the status is neither 503 nor 507"
	case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "":
		why = "it does not say when to try again"
	case code == "" || sentence == "":
		why = "it has no code, or no sentence"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[fmt.Sprintf("%d %s", a.status, code)]++
	if why != "" {
		h.wrong[fmt.Sprintf("%s %s: %s: %s", method, kindOf(path), a, why)]++
	}
}

// problemOf returns the code and the sentence of an error, in the form of the Face API, the management plane and
// vaults, or in that of OAuth.
func problemOf(body []byte) (code, sentence string) {
	var said struct {
		Error       json.RawMessage
		Description string `json:"error_description"`
	}
	var inner struct{ Code, Message string }
	if json.Unmarshal(body, &said) != nil {
		return "", ""
	}
	if json.Unmarshal(said.Error, &code) == nil {
		return code, said.Description
	}
	_ = json.Unmarshal(said.Error, &inner) // then it has no code
	return inner.Code, inner.Message
}

var (
	requestIDs = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)
	numbers    = regexp.MustCompile(`[0-9]+`)
)

// kindOf is a path without what differs from one request to the next.
func kindOf(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return numbers.ReplaceAllString(requestIDs.ReplaceAllString(path, "ID"), "N")
}

// report returns the counts, and what was wrong.
func (h *answers) report() (counts map[string]int, wrong []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kinds := map[string]int{}
	for text, n := range h.wrong {
		kinds[requestIDs.ReplaceAllString(text, "ID")] += n
	}
	for _, text := range slices.Sorted(maps.Keys(kinds)) {
		wrong = append(wrong, fmt.Sprintf("%d times: %s", kinds[text], text))
	}
	return maps.Clone(h.counts), wrong
}
