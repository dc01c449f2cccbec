package api

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/visage-face/visage"
)

// Openness decides from which addresses and origins the data of Face resources may be used, whatever the credential. It
// is called concurrently.
type Openness interface {
	// AdmitAddress refuses a client address that the rules of a resource exclude.
	AdmitAddress(r visage.Resource, from netip.Addr) error
	// AdmitOrigin reports whether pages of an origin may read answers about a resource.
	AdmitOrigin(r visage.Resource, origin string) bool
	// AdmitOriginAt is AdmitOrigin before authentication: for the resource at host (a Host header), or for any resource
	// if host names none.
	AdmitOriginAt(host, origin string) bool
}

// preflightAge is how long a browser may cache the answer to a preflight, in seconds: a removed origin works no longer
// than that.
const preflightAge = "600"

// maxPreflightHeaders limits the header names of a preflight that its answer repeats, in bytes.
const maxPreflightHeaders = 1024

// exposed are the response headers that pages may read, besides the safelisted ones.
const exposed = "apim-request-id, Operation-Location, Retry-After, x-ms-request-id, X-Request-ID"

// open reports whether a plane serves the data of resources, to which pages may get access.
func (h *Handler) open(p *Plane) bool { return h.cfg.Openness != nil && p != nil && p.KeyHeader != "" }

// preflight answers a CORS preflight (Fetch standard, CORS-preflight fetch), which browsers send without a credential.
// ok is false for other requests, and for origins that are not admitted: those are refused as an unsupported method.
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

// allowOrigin lets a page read an answer if its origin is admitted: by the authenticated resource or, without one, by
// the resource at the host.
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
