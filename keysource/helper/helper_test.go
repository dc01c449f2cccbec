package helper_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/helper"
	"github.com/visage-face/visage/keysource/sourcetest"
)

// TestMain is also the helper: the tests run real processes of this program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == helper.Argument {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "parent" {
		parent()
	}
	os.Exit(m.Run())
}

// child is what the helper does, by its second argument.
func child() error {
	if len(os.Args) > 2 {
		return misbehave(os.Args[2])
	}
	return helper.Serve(func(kind string, settings json.RawMessage, service helper.Service) (helper.Store, error) {
		if kind != "box" {
			return nil, fmt.Errorf("%q is no kind of store", kind)
		}
		return &boxes{service, settings}, nil
	})
}

// boxes is a store whose keys are made of their names.
type boxes struct {
	service  helper.Service
	settings json.RawMessage
}

func (b *boxes) Close() error { return nil }

func (b *boxes) Open(key helper.Key) (keysource.Source, error) {
	if key.Object == "" {
		return nil, &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Missing, Text: "a key has a name"}
	}
	return &box{b, key.Object}, nil
}

// box is a key. Some names make it do what helpers must survive.
type box struct {
	store *boxes
	name  string
}

func (b *box) aead() cipher.AEAD {
	block, err := aes.NewCipher([]byte(fmt.Sprintf("%-32s", b.name)))
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func (b *box) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	switch b.name {
	case "crash":
		os.Exit(3)
	case "endless":
		<-ctx.Done()
		return nil, keysource.Ref{}, context.Cause(ctx)
	}
	keysource.TraceOf(ctx).Answered("request of " + b.name)
	blob := b.aead().Seal(nil, nil, inner, keysource.LabelOf(ctx).Bytes())
	return blob, b.ref(), nil
}

// ref is the reference of the key; that of another one for a key that is named astray.
func (b *box) ref() keysource.Ref {
	if b.name == "astray" {
		return keysource.Ref{URI: "box:another", Version: "1"}
	}
	return keysource.Ref{URI: "box:" + b.name, Version: "1"}
}

func (b *box) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	inner, err := b.aead().Open(nil, nil, blob, keysource.LabelOf(ctx).Bytes())
	if err != nil || ref.URI != "box:"+b.name {
		return nil, &keysource.Error{Class: keysource.ErrWrong, Text: "another box"}
	}
	return inner, nil
}

// Describe reports what the helper may do as the weakness of the key, for keys that are named for it.
func (b *box) Describe(ctx context.Context, _ keysource.Ref) (keysource.Description, error) {
	d := keysource.Description{Ref: b.ref(), Algorithm: "A256GCM", Enabled: true,
		Expires: time.Unix(2e9, 0).UTC(),
		Unfit:   map[keysource.Fitness]string{keysource.FitType: "is a test"}}
	switch verb, what, _ := strings.Cut(b.name, " "); verb {
	case "read":
		_, err := os.ReadFile(what)
		d.Weak = fmt.Sprint(err)
	case "write":
		d.Weak = fmt.Sprint(os.WriteFile(what, []byte("x"), 0o600))
	case "dial":
		_, err := net.DialTimeout("tcp", what, time.Second)
		d.Weak = fmt.Sprint(err)
	case "run":
		d.Weak = fmt.Sprint(exec.Command(what).Run())
	case "signal":
		d.Weak = fmt.Sprint(syscall.Kill(os.Getppid(), 0))
	case "environment":
		d.Weak = strings.Join(os.Environ(), " ")
	case "status":
		raw, err := os.ReadFile("/proc/self/status")
		d.Weak = fmt.Sprintf("%s %v", raw, err)
	case "say":
		fmt.Fprintln(os.Stderr, what)
	case "keep":
		b.store.service.Keep([]byte(what))
	case "kept":
		d.Weak = string(b.store.service.Kept())
	case "settings":
		d.Weak = string(b.store.settings)
	case "file":
		content, err := b.store.service.File(ctx, what)
		d.Weak = fmt.Sprintf("%s %v", content, err)
	case "pid":
		d.Bits = os.Getpid()
	default:
		d.Weak = attempt(verb, what)
	}
	return d, nil
}

// log collects what is logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
	tb   testing.TB
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t testing.TB, cfg helper.Config, more ...string) (*helper.Process, *log) {
	t.Helper()
	said := &log{tb: t}
	cfg.Kind = "box"
	cfg.Log = slog.New(slog.NewTextHandler(said, nil))
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if len(more) > 0 {
		cfg.Command = append([]string{program, helper.Argument}, more...)
	}
	p, err := helper.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if t.Failed() {
			t.Log(said)
		}
	})
	return p, said
}

func named(object string) helper.Key { return helper.Key{URI: "box:" + object, Object: object} }

// ask describes a key, which makes the helper do what its name says.
func ask(t testing.TB, p *helper.Process, what string) keysource.Description {
	t.Helper()
	d, err := p.Open(named(what)).Describe(t.Context(), keysource.Ref{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return d
}

func TestConformance(t *testing.T) {
	p, _ := start(t, helper.Config{})
	sourcetest.Run(t, sourcetest.Provider{
		Open:  func(testing.TB) keysource.Source { return p.Open(named("one")) },
		Other: func(testing.TB) keysource.Source { return p.Open(named("two")) },
		Faults: []sourcetest.Fault{{
			Name: "no name", Class: keysource.ErrDenied, Says: "a key has a name",
			Source: func(testing.TB) keysource.Source { return p.Open(named("")) },
		}, {
			Name: "another kind", Class: keysource.ErrUnknown, Says: "did not begin",
			Source: func(t testing.TB) keysource.Source {
				p, _ := start(t, helper.Config{}, "silent")
				return p.Open(named("one"))
			},
		}},
	})
}

// TestCarries holds that labels, request ids, settings and descriptions reach the other side.
func TestCarries(t *testing.T) {
	p, _ := start(t, helper.Config{Settings: json.RawMessage(`{"a":1}`)})
	ctx := keysource.WithTrace(keysource.WithLabel(t.Context(), keysource.Label{
		Instance: [16]byte{1}, Resource: [16]byte{2}, Generation: 3,
	}))
	src := p.Open(named("one"))
	blob, ref, err := src.Wrap(ctx, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if id := keysource.TraceOf(ctx).RequestID(); id != "request of one" {
		t.Errorf("the request id is %q", id)
	}
	if inner, err := src.Unwrap(ctx, ref, blob); err != nil || string(inner) != "secret" {
		t.Errorf("unwrap: %q, %v", inner, err)
	}
	if _, err := src.Unwrap(t.Context(), ref, blob); !errors.Is(err, keysource.ErrWrong) {
		t.Errorf("without the label: %v", err)
	}
	d := ask(t, p, "settings")
	if d.Weak != `{"a":1}` || d.Expires.Unix() != 2e9 || d.Unfit[keysource.FitType] != "is a test" {
		t.Errorf("got %+v", d)
	}
	if _, _, err := src.Wrap(ctx, make([]byte, 70<<10)); !errors.Is(err, keysource.ErrUnknown) {
		t.Errorf("a secret that is too large: %v", err)
	}
	if _, err := src.Unwrap(ctx, ref, blob); err != nil {
		t.Errorf("after one that was too large: %v", err)
	}
}

// TestAnotherKey holds that a helper cannot have a resource use another key than its own.
func TestAnotherKey(t *testing.T) {
	p, _ := start(t, helper.Config{})
	src := p.Open(named("astray"))
	if _, _, err := src.Wrap(t.Context(), []byte("secret")); !errors.Is(err, keysource.ErrWrong) {
		t.Errorf("wrapped with another key: %v", err)
	}
	if _, err := src.Describe(t.Context(), keysource.Ref{}); !errors.Is(err, keysource.ErrWrong) {
		t.Errorf("another key described: %v", err)
	}
}

// TestStartsAnew kills, crashes and stops the helper in the middle of calls.
func TestStartsAnew(t *testing.T) {
	p, said := start(t, helper.Config{})
	src := p.Open(named("one"))
	blob, ref, err := src.Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	works := func(when string) {
		t.Helper()
		if inner, err := src.Unwrap(t.Context(), ref, blob); err != nil || string(inner) != "secret" {
			t.Fatalf("%s: %q, %v", when, inner, err)
		}
	}
	ask(t, p, "keep this")
	first := ask(t, p, "pid").Bits
	_, _, err = p.Open(named("crash")).Wrap(t.Context(), []byte("secret"))
	if !errors.Is(err, keysource.ErrUnknown) || !strings.Contains(err.Error(), "ended") {
		t.Errorf("a crash: %v", err)
	}
	works("after a crash")
	if second := ask(t, p, "pid").Bits; second == first {
		t.Error("the helper is the same after its crash")
	}
	if got := ask(t, p, "kept").Weak; got != "this" {
		t.Errorf("it keeps %q in its second life", got)
	}
	if !strings.Contains(said.String(), "exit status 3") {
		t.Error("the log does not say how it ended")
	}
}

// TestHangs stops the helper: the call gives ErrUnknown after its limit, and the next helper works.
func TestHangs(t *testing.T) {
	p, said := start(t, helper.Config{})
	pid := ask(t, p, "pid").Bits
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for stopped := false; !stopped; { // all its threads
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		stopped = bytes.Contains(raw, []byte(") T "))
	}
	_, _, err := p.Open(named("one")).Wrap(t.Context(), []byte("secret"))
	if !errors.Is(err, keysource.ErrUnknown) || !strings.Contains(err.Error(), "no answer within 5s") {
		t.Errorf("while it hangs: %v", err)
	}
	// The helper that hangs is killed a second later; what comes before that waits with it, and then ends.
	for {
		if _, _, err = p.Open(named("one")).Wrap(t.Context(), []byte("secret")); err == nil {
			break
		}
		if !errors.Is(err, keysource.ErrUnknown) {
			t.Fatal(err)
		}
	}
	if again := ask(t, p, "pid").Bits; again == pid || !strings.Contains(said.String(), "was killed") {
		t.Errorf("pid %d, then %d; log:\n%s", pid, again, said)
	}
}

// TestLeft holds that a caller who leaves gets the cause at once, and that the helper is told.
func TestLeft(t *testing.T) {
	p, _ := start(t, helper.Config{})
	pid := ask(t, p, "pid").Bits
	cause := errors.New("the caller has left")
	var wg sync.WaitGroup
	for range 100 { // more than may be under way: each must be told, or the others wait
		wg.Go(func() {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, cause)
			defer cancel()
			if _, _, err := p.Open(named("endless")).Wrap(ctx, nil); !errors.Is(err, cause) {
				t.Errorf("got %v, want the cause", err)
			}
		})
	}
	wg.Wait()
	if again := ask(t, p, "pid").Bits; again != pid {
		t.Error("the helper was ended because callers left")
	}
}

// TestKilled kills helpers while many calls are under way: each either works or is ErrUnknown.
func TestKilled(t *testing.T) {
	p, _ := start(t, helper.Config{})
	var wg sync.WaitGroup
	for round := range 2 {
		pid := ask(t, p, "pid").Bits
		begun := make(chan struct{}, 8)
		for i := range 8 {
			wg.Go(func() {
				src := p.Open(named(fmt.Sprintf("key %d of round %d", i, round)))
				for n := range 200 {
					blob, ref, err := src.Wrap(t.Context(), []byte("secret"))
					if err == nil {
						var inner []byte
						inner, err = src.Unwrap(t.Context(), ref, blob)
						if err == nil && string(inner) != "secret" {
							t.Errorf("got %q", inner)
						}
					}
					if err != nil && !errors.Is(err, keysource.ErrUnknown) {
						t.Errorf("got %v", err)
					}
					if n == 10 {
						begun <- struct{}{}
					}
				}
			})
		}
		for range 8 {
			<-begun
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
	// Lives that end early are followed by a pause; what is asked meanwhile says so.
	for {
		_, _, err := p.Open(named("one")).Wrap(t.Context(), nil)
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "started again in") {
			t.Fatalf("got %v", err)
		}
		runtime.Gosched()
	}
}

// TestMisbehaves runs helpers that break the protocol.
func TestMisbehaves(t *testing.T) {
	for how, says := range map[string]string{
		"silent":         "did not begin",
		"old":            "another version of the protocol",
		"garbage":        "no message of this protocol",
		"oversized":      "no message of this protocol",
		"short":          "ended early",
		"unasked":        "no message of this protocol",
		"other answer":   "no message of this protocol",
		"other nonce":    "does not repeat",
		"wrong helper":   "wrong helper",
		"garbage answer": "no message of this protocol",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p, _ := start(t, helper.Config{}, how)
			_, _, err := p.Open(named("one")).Wrap(t.Context(), []byte("secret"))
			if !errors.Is(err, keysource.ErrUnknown) || !strings.Contains(err.Error(), says) {
				t.Errorf("got %v, want %q", err, says)
			}
		})
	}
}

// misbehave is a helper that breaks the protocol.
func misbehave(how string) error {
	file := os.NewFile(3, "service")
	read := func() []byte {
		var size [4]byte
		_, _ = io.ReadFull(file, size[:])
		raw := make([]byte, binary.BigEndian.Uint32(size[:]))
		_, _ = io.ReadFull(file, raw)
		return raw
	}
	say := func(kind byte, id uint64, fields ...string) {
		raw := append(binary.BigEndian.AppendUint64([]byte{kind}, id), byte(len(fields)))
		for _, f := range fields {
			raw = append(binary.BigEndian.AppendUint32(raw, uint32(len(f))), f...)
		}
		_, _ = file.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...))
	}
	const ready, unwrapped, healthy, refused = 6, 8, 10, 14
	const protocol = "visage key store helper 2"
	begin := func() (id uint64, nonce string) {
		say(ready, 0, protocol, "")
		asked := read()
		return binary.BigEndian.Uint64(asked[1:]), string(asked[len(asked)-16:])
	}
	read()
	switch how {
	case "silent":
	case "old":
		say(ready, 0, "visage key store helper 0", "")
	case "garbage":
		_, _ = file.Write(bytes.Repeat([]byte("\x00\x00\x00\x20"), 9))
	case "oversized":
		_, _ = file.Write([]byte("\xff\xff\xff\xff"))
	case "short":
		_, _ = file.Write([]byte("\x00\x00\x00\x20\x06"))
	case "unasked":
		say(ready, 0, protocol, "")
		say(healthy, 99, "", "")
		_, _ = io.Copy(io.Discard, file)
	case "other answer":
		id, nonce := begin()
		say(unwrapped, id, "", nonce)
		_, _ = io.Copy(io.Discard, file)
	case "other nonce":
		id, _ := begin()
		say(healthy, id, "", "0123456789abcdef")
		_, _ = io.Copy(io.Discard, file)
	case "wrong helper":
		say(refused, 0, "wrong helper")
	case "garbage answer":
		id, nonce := begin()
		say(healthy, id, "", nonce)
		read()
		_, _ = file.Write([]byte("HTTP/1.1 400 Bad Request\r\n"))
		_, _ = io.Copy(io.Discard, file)
	}
	return nil
}

// TestConfined holds what a helper may do.
func TestConfined(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems confine no helper, and the log says so")
	}
	dir := t.TempDir()
	other := filepath.Join(t.TempDir(), "other")
	readable, writable := filepath.Join(dir, "readable"), filepath.Join(dir, "writable")
	for _, path := range []string{readable, writable, other} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listen := func() (string, uint16) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().String(), uint16(l.Addr().(*net.TCPAddr).Port)
	}
	open, port := listen()
	closed, _ := listen()
	t.Setenv("SECRET_OF_THE_SERVICE", "canary")
	p, said := start(t, helper.Config{Confinement: helper.Confinement{
		Read: []string{readable, "/nowhere"}, Write: []string{writable}, Ports: []uint16{port},
		Environment: map[string]string{"LIBRARY_CONF": "/etc/x"},
	}})
	isolated, _ := start(t, helper.Config{})
	ask(t, p, "pid")
	if strings.Contains(said.String(), "does not confine") {
		t.Skipf("the kernel cannot confine helpers: %s", said)
	}
	for _, c := range []struct {
		p    *helper.Process
		does string
		may  bool
	}{
		{p, "read " + readable, true},
		{p, "read " + writable, true},
		{p, "read " + other, false},
		{p, "read /etc/passwd", false},
		{p, "read /proc/1/environ", false},
		{p, "write " + writable, true},
		{p, "write " + readable, false},
		{p, "write " + filepath.Join(dir, "new"), false},
		{p, "dial " + open, true},
		{p, "dial " + closed, false},
		{p, "run /bin/true", false},
		{p, "signal", false},
		{isolated, "dial " + open, false},
		{isolated, "read " + readable, false},
		{isolated, "read /etc/hosts", false},
	} {
		if got := ask(t, c.p, c.does).Weak; (got == "<nil>") != c.may {
			t.Errorf("%s: %s, may it: %t", c.does, got, c.may)
		}
	}
	env := ask(t, p, "environment").Weak
	if !strings.Contains(env, "LIBRARY_CONF=/etc/x") || strings.Contains(env, "canary") ||
		strings.Contains(env, "HOME=") {
		t.Errorf("its environment is %s", env)
	}
}

// TestErrors holds what is logged of the standard error of a helper.
func TestErrors(t *testing.T) {
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte("4711-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pem := filepath.Join(t.TempDir(), "key.pem")
	const private = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49\nAgE=\n-----END PRIVATE KEY-----\n"
	if err := os.WriteFile(pem, []byte(private), 0o600); err != nil {
		t.Fatal(err)
	}
	p, said := start(t, helper.Config{
		Files:  map[string]string{"pin": pin, "key": pem},
		Hidden: []string{`configdir='sql:/secret place' password="c4n4ry-one" level=debug`},
		Confinement: helper.Confinement{Environment: map[string]string{
			"VENDOR_PASSWORD": "c4n4ry-two", "VENDOR_OPTIONS": "user=crypto;pass=c4n4ry=three", "LEVEL": "1",
			"VENDOR_KEY": "YzRuNHJ5LWZvdXI=="}},
	})
	ask(t, p, "say the library is old")
	ask(t, p, "say configdir and level 1 of debug")
	for _, secret := range []string{"one", "two", "=three"} {
		ask(t, p, "say connecting with c4n4ry"+strings.Replace("-"+secret, "-=", "=", 1)+" now")
	}
	ask(t, p, "say no such place: sql:/secret")
	ask(t, p, "say key YzRuNHJ5LWZvdXI== refused")
	ask(t, p, "say the key is MIGHAgEAMBMGByqGSM49AgEGCCqGSM49")
	ask(t, p, "say PIN is 4711-secret")
	ask(t, p, "say "+strings.Repeat("x", 1<<10-4)+"4711-secret") // which is cut in the middle
	ask(t, p, "say "+strings.Repeat("long ", 1000))
	for range 300 {
		ask(t, p, "say more")
	}
	p.Close() // the pipe has been read
	got := said.String()
	for text, n := range map[string]int{
		"the library is old": 1, "4711": 0, "MIGHAg": 0,
		"c4n4ry": 0, "sql:": 0, "configdir and level 1": 1,
		"a line with a secret": 8, "line=more": 189, "YzRuNHJ5": 0, "further lines": 1,
	} {
		if strings.Count(got, text) != n {
			t.Errorf("the log says %q %d times, want %d", text, strings.Count(got, text), n)
		}
	}
	if len(got) > 64<<10 || strings.Contains(got, strings.Repeat("long ", 300)) {
		t.Error("the log has lines that are too long")
	}
}

// TestFiles holds that the helper gets the files of its description as they are now, and no others.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	pin := filepath.Join(dir, "pin")
	p, _ := start(t, helper.Config{Files: map[string]string{"pin": pin, "folder": dir}})
	if got := ask(t, p, "file pin").Weak; !strings.Contains(got, "no such file") {
		t.Errorf("without a file: %s", got)
	}
	for _, content := range []string{"first", "second"} { // a file of its own each, as by whoever replaces it
		next := filepath.Join(dir, content)
		if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, pin); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, p, "file pin").Weak; got != content+" <nil>" {
			t.Errorf("got %s, want %s", got, content)
		}
	}
	if err := os.WriteFile(pin, make([]byte, 33<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pin", "folder"} {
		if got := ask(t, p, "file "+name).Weak; !strings.Contains(got, "at most 32768 bytes") {
			t.Errorf("%s: %.100s", name, got)
		}
	}
	_, err := p.Open(named("file /etc/passwd")).Describe(t.Context(), keysource.Ref{})
	if !errors.Is(err, keysource.ErrUnknown) || !strings.Contains(err.Error(), "no message of this protocol") {
		t.Errorf("a file that is not its own: %v", err)
	}
}

// TestParentKilled kills a service: its helper ends as well.
func TestParentKilled(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe() // the helper has its end, and nobody else once the parent is dead
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "parent")
	cmd.Stderr = w
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(line[:n]), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the helper does not run: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r) // until all that hold the other end have ended
	_ = cmd.Wait()                // it was killed
	for syscall.Kill(pid, 0) == nil {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(raw, []byte(") Z ")) {
			return // dead, and not yet waited for by whoever inherited it
		}
		runtime.Gosched()
	}
}

// parent is a service with a helper, until it is killed.
func parent() {
	p, err := helper.New(helper.Config{Kind: "box", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	d, err := p.Open(named("pid")).Describe(context.Background(), keysource.Ref{})
	if err != nil {
		panic(err)
	}
	fmt.Println(d.Bits)
	select {}
}

// TestAlone holds that nobody else can be served.
func TestAlone(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(program, helper.Argument).CombinedOutput()
	if err == nil || !strings.Contains(string(text), "run by the service alone") {
		t.Errorf("%v: %s", err, text)
	}
	if _, err := helper.New(helper.Config{Kind: "x", Log: slog.Default(), Command: []string{"visage"}}); err == nil {
		t.Error("a program without an absolute path is accepted")
	}
}

// BenchmarkUnwrap compares a source in the helper with the same in this process.
func BenchmarkUnwrap(b *testing.B) {
	p, _ := start(b, helper.Config{})
	local := &box{&boxes{}, "one"}
	blob, ref, err := local.Wrap(b.Context(), bytes.Repeat([]byte("s"), 61))
	if err != nil {
		b.Fatal(err)
	}
	unwrap := func(src keysource.Source) time.Duration {
		begun := time.Now()
		if _, err := src.Unwrap(b.Context(), ref, blob); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
	remote := p.Open(named("one"))
	unwrap(remote) // starts it
	var here, there time.Duration
	for b.Loop() {
		here += unwrap(local)
		there += unwrap(remote)
	}
	b.ReportMetric(float64(here.Microseconds())/float64(b.N), "µs/here")
	b.ReportMetric(float64(there.Microseconds())/float64(b.N), "µs/helper")
	b.ReportMetric(float64((there-here).Microseconds())/float64(b.N), "µs/added")
}
