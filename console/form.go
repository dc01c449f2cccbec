package console

import (
	"bytes"
	"container/list"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// form is a form of a page, as the template "form" draws it.
type form struct {
	Action string // a path of the console
	ID     string // of the button, so that it keeps the focus when the page asks again; empty: none
	Token  string
	Fields []*field
	Submit string // the text of the button
	Style  string // of the button: "primary" (the default), "danger" or "plain"
	Icon   string // of the button; empty: none
	Files  bool   // it has a field for files
	Error  *explanation
	Cancel string // a path; empty: there is no link to cancel
}

// field is a field of a form.
type field struct {
	Name, Label string
	// Kind is "text", "email", "number", "date", "datetime-local", "password", "search", "url", "textarea", "select",
	// "radio", "checkbox", "file" or "hidden".
	Kind         string
	Value        string
	Checked      bool // of a checkbox
	Hint         string
	Error        string // what is wrong with the value
	Options      []option
	Required     bool
	Autocomplete string // as HTML has it; empty: "off"
	Accept       string // the types of files
	Multiple     bool   // several files
	Max          int    // characters; 0: no limit
	Code         bool   // an identifier, in a fixed-width font
}

// option is one choice of a field.
type option struct {
	Value, Text, Hint string
	Disabled          bool
}

// form makes a form that is sent to a path of the console.
func (v *visit) form(action, submit string, fields ...*field) *form {
	f := &form{Action: action, Token: v.token(), Fields: fields, Submit: submit, Style: "primary"}
	for _, x := range fields {
		f.Files = f.Files || x.Kind == "file"
	}
	v.forms = append(v.forms, f)
	return f
}

// button makes a form without fields, of the style "primary", "danger" or "plain". The hidden values are pairs of names
// and values.
func (v *visit) button(action, text, style string, hidden ...string) *form {
	f := v.form(action, text)
	f.Style = style
	for i := 0; i+1 < len(hidden); i += 2 {
		f.Fields = append(f.Fields, &field{Name: hidden[i], Kind: "hidden", Value: hidden[i+1]})
	}
	return f
}

// Field returns the field of a name, for templates that draw fields one by one; nil if there is none.
func (f *form) Field(name string) *field {
	for _, x := range f.Fields {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// fill puts what was typed into the fields of a form, as far as people see what they have typed.
func (f *form) fill(typed func(name string) string) {
	for _, x := range f.Fields {
		switch x.Kind {
		case "file", "password":
		case "checkbox":
			x.Checked = typed(x.Name) != ""
		case "hidden":
		default:
			x.Value = typed(x.Name)
		}
	}
}

// refused puts what was typed back into the fields of a form, with the reason why it was refused: at the field that
// fields names for the refusal's code, else above the form. It returns false for an error that is no refusal of what
// was typed.
func (v *visit) refused(f *form, err error, fields map[string]string) bool {
	said, ok := v.explain(err)
	if !ok {
		return false
	}
	f.fill(v.field)
	if x := f.Field(fields[said.Code]); x != nil {
		x.Error = said.Sentence
	}
	f.Error = said
	return true
}

// explanation is a refusal for people.
type explanation struct {
	Sentence string // in the visitor's language: what is wrong, and what to do
	Detail   string // the service's own sentence, in English, if Sentence does not say it; empty: none
	Code     string // for support, and for the documentation
	Status   int    // of the answer
}

// explain explains a refusal. It returns false for any other error.
func (v *visit) explain(err error) (*explanation, bool) {
	said := v.lang.failure(v.Context(), err)
	return said, said != nil
}

// failure explains an error to people; nil for one that only the log may have.
func (l *language) failure(ctx context.Context, err error) *explanation {
	p, internal := api.ProblemOf(ctx, err)
	if internal {
		return nil
	}
	return l.explanation(p)
}

// explanation returns what a refusal says to people. The services speak English; other languages have one sentence for
// each code, and show the service's sentence beside it.
func (l *language) explanation(p *api.Problem) *explanation {
	e := &explanation{Sentence: p.Message, Code: p.Code, Status: p.Status}
	if l.code == l.services() {
		return e
	}
	e.Detail = p.Message
	for _, key := range []string{"refusal." + p.Code + "/" + p.InnerCode, "refusal." + p.Code, "problem.refused"} {
		if l.has(key) {
			e.Sentence = l.text(key)
			break
		}
	}
	return e
}

// refusal explains a refusal that is no answer, such as that of one precondition among others.
func (l *language) refusal(r *visage.Refusal) *explanation {
	return l.explanation(&api.Problem{Code: r.Code, InnerCode: r.InnerCode, Message: r.Message})
}

// again shows a page with a form that was refused.
func (v *visit) again(w *view, said *explanation) *view {
	w.status = http.StatusUnprocessableEntity
	if said != nil && said.Status >= 400 {
		w.status = said.Status
	}
	return w
}

// Limits of forms.
const (
	maxFields    = 200
	maxFiles     = 200
	maxFileName  = 255
	maxFieldSize = 64 << 10
)

// readForm reads the fields and files of a form and checks its token.
func (v *visit) readForm() error {
	if err := v.NeedContentType("application/x-www-form-urlencoded", "multipart/form-data"); err != nil {
		return err
	}
	body, err := v.ReadBody()
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.TooLarge {
		return visage.Refuse(visage.TooLarge, "FormTooLarge", "The form with its files may have at most %d bytes: "+
			"send less at once.", v.Route().MaxBody)
	}
	if err != nil {
		return err
	}
	if v.ContentType() == "multipart/form-data" {
		err = v.readParts(body)
	} else {
		v.typed, err = url.ParseQuery(string(body))
	}
	if err != nil {
		return visage.Refuse(visage.Invalid, "InvalidForm", "The form cannot be read: open the page again.")
	}
	if err := clean(v.typed); err != nil {
		return err
	}
	if v.signedIn() && !validToken(v.secret, v.typed.Get("token")) {
		return visage.Refuse(visage.Denied, "InvalidFormToken", "The form is too old, or was not made for your "+
			"session: open the page again and repeat what you typed.")
	}
	return nil
}

// clean refuses fields that no form has, and makes the ends of lines in the others one character.
func clean(typed url.Values) error {
	if len(typed) > maxFields {
		return visage.Refuse(visage.Invalid, "InvalidForm", "The form cannot be read: open the page again.")
	}
	for _, values := range typed {
		for i, text := range values {
			if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
				return visage.Refuse(visage.Invalid, "InvalidForm", "The form has text that is not valid UTF-8.")
			}
			values[i] = strings.ReplaceAll(text, "\r\n", "\n")
		}
	}
	return nil
}

// readParts reads a form with files.
func (v *visit) readParts(body []byte) error {
	_, params, err := mime.ParseMediaType(v.Header("Content-Type"))
	if err != nil {
		return err
	}
	v.typed = url.Values{}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		name := part.FormName()
		if _, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition")); err == nil {
			if file, given := params["filename"]; given {
				if file == "" && len(data) == 0 {
					continue // a field for files that was left empty
				}
				if len(v.files) == maxFiles {
					return errors.New("too many files")
				}
				v.files = append(v.files, upload{name, cut(file, maxFileName), data})
				continue
			}
		}
		if len(data) > maxFieldSize {
			return errors.New("a field is too long")
		}
		v.typed.Add(name, string(data))
	}
}

// cut shortens a text to at most n bytes, at the border of a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// token returns a token for a form: a random value, and its authentication code under the secret of the session. Only a
// page of the console can have one, and each is for one form.
func (v *visit) token() string {
	if v.secret == "" {
		return ""
	}
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce) // never fails, see crypto/rand
	text := base64.RawURLEncoding.EncodeToString(nonce)
	return text + "." + tokenCode(v.secret, text)
}

func tokenCode(secret, nonce string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte("visage console form\x00" + nonce)) // never fails, see hash.Hash
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func validToken(secret, token string) bool {
	nonce, code, found := strings.Cut(token, ".")
	return found && nonce != "" && hmac.Equal([]byte(code), []byte(tokenCode(secret, nonce)))
}

// sentForms remembers the answers to forms for a while, so that a form that is sent twice, by a double click or by
// going back, is done once.
type sentForms struct {
	mu     sync.Mutex
	recent *list.List // of *sentForm, the latest in front
	byKey  map[[sha256.Size]byte]*list.Element
}

type sentForm struct {
	key  [sha256.Size]byte
	at   time.Time
	to   string        // where the answer leads; empty: it failed or showed a page, and may be sent again
	made bool          // the answer showed something that is shown once, and nowhere else
	done chan struct{} // closed when there is an answer
}

// Limits of remembered forms.
const (
	maxSentForms  = 10_000
	sentFormsLast = 10 * time.Minute
)

func newSentForms() *sentForms {
	return &sentForms{recent: list.New(), byKey: map[[sha256.Size]byte]*list.Element{}}
}

// begin enters a form. If it was sent before, the earlier one is returned.
func (s *sentForms) begin(key [sha256.Size]byte) (mine, earlier *sentForm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for e := s.recent.Back(); e != nil; e = s.recent.Back() {
		oldest := e.Value.(*sentForm)
		if s.recent.Len() < maxSentForms && now.Sub(oldest.at) < sentFormsLast {
			break
		}
		s.recent.Remove(e)
		delete(s.byKey, oldest.key)
	}
	if e := s.byKey[key]; e != nil {
		return nil, e.Value.(*sentForm)
	}
	mine = &sentForm{key: key, at: now, done: make(chan struct{})}
	s.byKey[key] = s.recent.PushFront(mine)
	return mine, nil
}

// end remembers where the answer leads, or that it showed something once; else the form is forgotten.
func (s *sentForms) end(f *sentForm, to string, made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.to, f.made = to, made
	if e := s.byKey[f.key]; to == "" && !made && e != nil && e.Value == f {
		s.recent.Remove(e)
		delete(s.byKey, f.key)
	}
	close(f.done)
}

// once calls handle unless the same form was sent before: then it waits for that one, and leads where it led.
func (v *visit) once(handle func() (*view, error)) (*view, error) {
	hash := sha256.New()
	_, _ = io.WriteString(hash, v.Where()+"\x00"+v.typed.Encode())
	for _, f := range v.files {
		_, _ = hash.Write(f.data)
	}
	for {
		mine, earlier := v.c.sent.begin([sha256.Size]byte(hash.Sum(nil)))
		if mine != nil {
			to, made := "", false
			defer func() { v.c.sent.end(mine, to, made) }()
			w, err := handle()
			if err == nil {
				to, made = w.location, w.once
			}
			return w, err
		}
		select {
		case <-earlier.done:
		case <-v.Context().Done():
			return nil, v.Context().Err()
		}
		if earlier.made {
			return nil, visage.Refuse(visage.Conflict, "FormSentTwice", "This form was sent twice. The answer to the "+
				"first showed what was made, which is shown only once: if you did not see it, remove what was made, "+
				"open the page again and send a new form.")
		}
		if earlier.to != "" {
			return v.redirect(earlier.to), nil
		}
	}
}

// notices keeps the messages for the next page of each session. They are lost when the server stops.
type notices struct {
	mu  sync.Mutex
	all map[string][]notice // by session
}

func newNotices() *notices { return &notices{all: map[string][]notice{}} }

// Limits of kept messages.
const (
	maxNotices         = 5 // of a session
	maxNoticesSessions = 10_000
)

func (n *notices) add(session string, said notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.all[session]) == maxNotices {
		return
	}
	if n.all[session] == nil && len(n.all) == maxNoticesSessions {
		for other := range n.all { // most of those sessions have ended
			delete(n.all, other)
			break
		}
	}
	n.all[session] = append(n.all[session], said)
}

func (n *notices) take(session string) []notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	said := n.all[session]
	delete(n.all, session)
	return said
}
