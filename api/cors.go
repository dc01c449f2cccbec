package api

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/visage-face/visage"
)

// Openness knows from where the data of Face resources may be used, whatever the credential. It is called concurrently.
type Openness interface {
	// AdmitAddress refuses a client at an address that a resource is not open to.
	AdmitAddress(r visage.Resource, from netip.Addr) error
	// AdmitOrigin reports whether a browser may give answers about a resource to the pages of an origin.
	AdmitOrigin(r visage.Resource, origin string) bool
	// AdmitOriginAt is AdmitOrigin before the resource is known: of the one that host (a Host header) names, or of any
	// where it names none.
	AdmitOriginAt(host, origin string) bool
}

// preflightAge is how long a browser may keep the answer to a preflight, in seconds: as long as an origin that was
// taken away goes on at most.
const preflightAge = "600"

// maxPreflightHeaders bounds the header names of a preflight that are repeated in its answer, in bytes.
const maxPreflightHeaders = 1024

// exposed are the headers of answers that pages may read, besides those that they always may.
const exposed = "apim-request-id, Operation-Location, Retry-After, x-ms-request-id, X-Request-ID"

// open reports whether a plane's routes are about the data of resources, which pages may be let in to.
func (h *Handler) open(p *Plane) bool { return h.cfg.Openness != nil && p != nil && p.KeyHeader != "" }

// preflight answers what a browser asks before it sends a page's request (Fetch standard, CORS-preflight fetch). A
// browser sends no credential with it. ok is false for what is none, or of an origin that is not let in: it is refused
// as a method that the path does not have.
func (h *Handler) preflight(x *exchange, r *http.Request, found *node) (answer, bool) {
	origin, method := r.Header.Get("Origin"), r.Header.Get("Access-Control-Request-Method")
	if r.Method != http.MethodOptions || origin == "" || method == "" || !h.open(x.plane) ||
		!h.cfg.Openness.AdmitOriginAt(r.Host, origin) {
		return answer{}, false
	}
	a := answer{status: http.StatusNoContent, header: http.Header{}}
	a.header.Set("Access-Control-Allow-Methods", found.methods())
	if names := r.Header.Get("Access-Control-Request-Headers"); names != "" && len(names) <= maxPreflightHeaders &&
		isHeaderNames(names) {
		a.header.Set("Access-Control-Allow-Headers", names)
	}
	a.header.Set("Access-Control-Max-Age", preflightAge)
	return a, true
}

// isHeaderNames reports whether text is a list of header names, RFC 9110 §5.6.2.
func isHeaderNames(text string) bool {
	return strings.IndexFunc(text, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.ContainsRune("!#$%&'*+-.^_`|~, ", c))
	}) < 0
}

// allowOrigin lets a page read an answer when its origin is let in: by the resource that the credential opened or,
// where none was, by what the host names.
func (h *Handler) allowOrigin(header http.Header, x *exchange, r *http.Request) {
	if !h.open(x.plane) {
		return
	}
	header.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	if x.resource.ID == (visage.ResourceID{}) {
		if !h.cfg.Openness.AdmitOriginAt(r.Host, origin) {
			return
		}
	} else if !h.cfg.Openness.AdmitOrigin(x.resource, origin) {
		return
	}
	header.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions {
		header.Set("Access-Control-Expose-Headers", exposed)
	}
}
