package console_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage/server/servertest"
)

var (
	judged      = flag.Bool("judge", false, "run Lighthouse over every page too")
	screenshots = flag.String("screenshots", "", "write pictures of every page to this folder")
	only        = flag.String("only", "", "of the pages, take those whose names contain one of these (a,b,c)")
)

// TestMain ends the browser that the tests share.
func TestMain(m *testing.M) {
	flag.Parse()
	walkSideBySide()
	code := m.Run()
	if b, err := chromium(); started && err == nil {
		b.stop()
	}
	os.Exit(code)
}

// walkSideBySide lets twice as many tests run at a time as there are processors, unless -parallel says how many: a walk
// waits for the browser, and for pages that ask again by themselves, for more than half of its time.
func walkSideBySide() {
	const atOnce = "test.parallel"
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == atOnce })
	if !given {
		_ = flag.Set(atOnce, strconv.Itoa(2*runtime.GOMAXPROCS(0))) // a number is always taken
	}
}

// browser is a running Chromium.
type browser struct {
	port string // of the DevTools protocol
	cmd  *exec.Cmd
	dir  string // its profile

	mu   sync.Mutex
	said []string // the last lines of its log
}

// note keeps a line of the browser's log.
func (b *browser) note(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said[max(0, len(b.said)-29):], line)
}

// state is what the browser has said, and whether it still answers: for walks that fail.
func (b *browser) state() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answers := "it answers"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+b.port+"/json/version", nil)
	if err == nil {
		var res *http.Response
		if res, err = http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	}
	if err != nil {
		answers = err.Error()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return "the browser: " + answers + "\n" + strings.Join(b.said, "\n")
}

var (
	started  bool
	chromium = sync.OnceValues(startChromium)
)

// errNoChromium says that there is none on this machine.
var errNoChromium = errors.New("no Chromium: install the package chromium, or set VISAGE_CHROMIUM")

// startChromium starts the browser with a fresh profile. It accepts every certificate, as each server of the tests has
// an authority of its own; the walks assert that nothing but the server is asked.
func startChromium() (*browser, error) {
	program := os.Getenv("VISAGE_CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); program == "" && err == nil {
			program = found
		}
	}
	if program == "" {
		return nil, errNoChromium
	}
	dir, err := os.MkdirTemp("", "visage-chromium-")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		// Nothing that begins by itself some minutes later, such as a test whether language models would run here, and
		// no page that is slowed down because it is not in front.
		"--disable-extensions", "--disable-features=OptimizationHints,OptimizationGuideOnDeviceModel,"+
			"OptimizationGuideModelExecution,MediaRouter,DialMediaRouteProvider,Translate,"+
			"SpareRendererForSitePerProcess,WebUIOmniboxPopup,WebUIOmniboxFullPopup,WebUIOmniboxAimPopup",
		// Two processes for each visit, and not four: what the walks prove does not depend on which process shows a
		// page, and starting processes is a fifth of their work.
		"--disable-site-isolation-trials",
		"--disable-breakpad", "--disable-hang-monitor", "--disable-ipc-flooding-protection",
		"--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows",
		"--disable-renderer-backgrounding",
		"--hide-scrollbars", "--ignore-certificate-errors", "--use-fake-device-for-media-stream",
		"--use-fake-ui-for-media-stream", "--remote-debugging-port=0", "--user-data-dir="+dir, "about:blank")
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	started = true
	b := &browser{cmd: cmd, dir: dir}
	lines := bufio.NewScanner(said)
	var before strings.Builder
	for lines.Scan() {
		fmt.Fprintln(&before, lines.Text())
		if _, address, found := strings.Cut(lines.Text(), "DevTools listening on ws://"); found {
			hostport, _, _ := strings.Cut(address, "/")
			_, b.port, _ = strings.Cut(hostport, ":")
			go func() { // ends with the browser
				for lines.Scan() {
					b.note(lines.Text())
				}
				b.note(fmt.Sprintf("nothing more: %v", lines.Err()))
			}()
			return b, nil
		}
	}
	b.stop()
	return nil, fmt.Errorf("start Chromium: it says\n%s", before.String())
}

func (b *browser) stop() {
	_ = b.cmd.Process.Kill() // it may have ended
	_ = b.cmd.Wait()         // of a killed process
	_ = os.RemoveAll(b.dir)  // of the system's temporary files
}

// acts are what a script has the test do between two steps, by name: what no browser can do, such as stop the server.
// Each runs in the goroutine of the test. What it returns reaches the script as JSON.
type acts map[string]func() any

// walk runs a script with the browser against a server. Facts are what the script is told besides, as JSON.
func walk(t *testing.T, s *servertest.Server, script string, facts any, args ...string) {
	t.Helper()
	walkWith(t, s, nil, script, facts, args...)
}

// walkWith is walk for a script that has the test do something.
func walkWith(t *testing.T, s *servertest.Server, all acts, script string, facts any, args ...string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed")
	}
	if _, err := os.Stat("node_modules"); err != nil {
		missing(t, "the browser's driver is not installed: run make test, or npm ci --ignore-scripts in test/console")
	}
	b, err := chromium()
	if errors.Is(err, errNoChromium) {
		missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	told, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan asking)
	door := httptest.NewServer(testDoor(t, s, asked))
	defer door.Close()
	waiting, forget := servertest.Patience(t)
	defer forget()
	patience := time.Hour // for a test without a limit
	if end, limited := waiting.Deadline(); limited {
		patience = time.Until(end)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, node, append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "CONSOLE_URL="+s.URL, "CONSOLE_DOOR="+door.URL, "CONSOLE_BROWSER="+b.port,
		"CONSOLE_FACTS="+string(told), "CONSOLE_ONLY="+*only, "NODE_NO_WARNINGS=1",
		fmt.Sprintf("CONSOLE_PATIENCE=%d", patience.Milliseconds()))
	begin := time.Now()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { err = cmd.Wait(); close(ended) }()
	defer func() { cancel(); <-ended }() // also when an act fails
	for {
		select {
		case q := <-asked:
			act, known := all[q.act]
			if !known {
				t.Fatalf("%s asks for %q, which the test does not know", script, q.act)
			}
			q.answer <- act()
		case <-waiting.Done():
			cancel()
			<-ended
			t.Fatalf("%s does not end; so far it says:\n%s\n%s", script, said.Bytes(), b.state())
		case <-ended:
			t.Logf("%s (%v):\n%s", script, time.Since(begin).Round(time.Millisecond), said.Bytes())
			if err != nil {
				t.Fatalf("%s: %v\n%s", script, err, b.state())
			}
			return
		}
	}
}

// asking is a script that waits for an act.
type asking struct {
	act    string
	answer chan<- any
}

// testDoor is where scripts ask the test for something: one-time addresses, for the principal in the query, and acts.
func testDoor(t *testing.T, s *servertest.Server, asked chan<- asking) http.Handler {
	door := http.NewServeMux()
	door.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		address, err := s.SignInAddress(t.Context(), r.URL.Query().Get("principal"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, address) // to this machine
	})
	door.HandleFunc("POST /acts/{act}", func(w http.ResponseWriter, r *http.Request) {
		answer := make(chan any, 1)
		select {
		case asked <- asking{r.PathValue("act"), answer}:
		case <-r.Context().Done():
			return
		}
		select {
		case what := <-answer:
			_ = json.NewEncoder(w).Encode(what) // to this machine
		case <-r.Context().Done():
		}
	})
	return door
}

// missing skips with a reason on a developer's machine and fails in CI.
func missing(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// folder makes an empty folder for results, relative to the module's.
func folder(t *testing.T, name string) string {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join("..", "..", name)
	}
	if err := os.MkdirAll(name, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}
