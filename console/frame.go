package console

import (
	"net/http"
	"strings"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/console/assets"
)

// frameRoutes are what every page needs.
func (c *Console) frameRoutes() []route {
	return []route{
		page(prefix+"/assets/{hash}/{name}", open, c.asset),
		send(prefix+"/language", open, c.chooseLanguage),
		page(oneJob, signedIn, c.job),
		page(oneJob+"/files/{file}", signedIn, c.jobFile),
		send(oneJob+"/cancel", signedIn, c.cancelJob),
	}
}

// greet sets the headers that every answer of the console has. No page of another site may show the console in a
// frame; scripts, styles and pictures come from the console alone.
func greet(h http.Header, _ *http.Request, requestID string) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; "+
		"img-src 'self' blob: data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Permissions-Policy", "camera=(self), microphone=(), geolocation=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Request-Id", requestID)
}

// missingAssets names what the build left out.
func missingAssets() []string { return assets.Missing() }

// asset answers with a style sheet, script or icon. Its path has a hash of its content, so browsers keep it for good.
func (c *Console) asset(v *visit) (*view, error) {
	f, found := assets.Open(v.Path("hash"), v.Path("name"))
	if !found {
		return nil, refuseUnknownPage()
	}
	header := http.Header{
		"Content-Type":  {f.ContentType},
		"Cache-Control": {"public, max-age=31536000, immutable"},
		"Vary":          {"Accept-Encoding"},
	}
	w := &view{header: header, raw: f.Content}
	if f.Gzipped != nil && acceptsGzip(v.Header("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		w.raw = f.Gzipped
	}
	return w, nil
}

// acceptsGzip reads the header Accept-Encoding (RFC 9110 §12.5.3), as far as browsers use it.
func acceptsGzip(accepted string) bool {
	for part := range strings.SplitSeq(accepted, ",") {
		coding, quality, weighed := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			return !weighed || strings.TrimSpace(quality) != "q=0"
		}
	}
	return false
}

// chooseLanguage remembers a language.
func (c *Console) chooseLanguage(v *visit) (*view, error) {
	w := v.redirect(local(v.field("to")))
	for _, l := range c.languages {
		if l.code == v.field("language") {
			const year = 365 * 24 * 60 * 60 * 1e9
			w.header = http.Header{"Set-Cookie": {setCookie(languageCookie, l.code, year)}}
		}
	}
	return w, nil
}

// local returns a path if it leads to a page of the console, else the console's first page: no form or link can lead
// to another site.
func local(to string) string {
	path, _, _ := strings.Cut(to, "?")
	if path != prefix && !strings.HasPrefix(path, prefix+"/") || strings.ContainsAny(to, "\\\r\n\t\x00#") ||
		strings.Contains(path, "//") || strings.Contains(path, "/../") || strings.HasSuffix(path, "/..") {
		return prefix
	}
	return to
}

// problemPage writes an error for people.
func (c *Console) problemPage(h http.Header, r *http.Request, p *api.Problem) []byte {
	chosen := ""
	if cookie, err := r.Cookie(languageCookie); err == nil {
		chosen = cookie.Value
	}
	l := c.languageOf(chosen, r.Header.Get("Accept-Language"))
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", l.code)
	data := struct {
		*explanation
		RequestID string
		Internal  bool
	}{l.explanation(p), p.RequestID, p.Status == http.StatusInternalServerError}
	f := frame{Lang: l.code, Path: prefix, Data: data, Missing: missingAssets(), Title: l.text("problem.title")}
	template := "problem"
	if p.Status == http.StatusUnauthorized {
		if r.Header.Get("HX-Request") != "" {
			h.Set("HX-Refresh", "true")
		}
		to := local(unmarked(r.URL.RequestURI()))
		if r.Method == http.MethodPost {
			to = local(c.pageOf(r.URL.Path, c.formAt(r.URL.Path)))
		}
		if !strings.HasPrefix(to, signInPath) {
			h.Add("Set-Cookie", setCookie(returnCookie, to, flowsLast))
		}
		if _, err := r.Cookie(sessionCookie); err == nil {
			h.Add("Set-Cookie", setCookie(sessionCookie, "", 0))
			said := l.text("signin.ended")
			if kept, is := p.Note.(keptDraft); is && kept.cookie != "" {
				h.Add("Set-Cookie", kept.cookie)
				said = l.text("signin.ended.kept")
			} else if r.Method == http.MethodPost {
				said = l.text("signin.ended.lost")
			}
			f.Notices = []notice{{"info", said}}
		}
		template, f.Title, f.Data = "signin", l.text("signin.title"), c.signInWays(l, to)
	}
	body, err := l.render(template, f)
	if err != nil {
		c.log.Error("error page of the console not written", "request_id", p.RequestID, "err", err)
		h.Set("Content-Type", "text/plain; charset=utf-8")
		return []byte(p.Message)
	}
	return body
}
