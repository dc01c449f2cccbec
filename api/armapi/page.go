package armapi

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// largestPage is the maximal number of items in an answer; nextLink leads to the rest.
const largestPage = 1000

// pageParams are the query parameters of every list that comes in pages.
var pageParams = []api.Param{
	{Name: "$top", Text: "the most items that one answer has", Value: 0},
	{Name: "$skiptoken", Text: "where the answer begins: from a nextLink", Value: ""},
}

// page answers with the requested part of a list, in the order of the ids, and a link to the next. A page begins after
// an id and not at a number, so that no item is skipped when others are added or removed in between.
func page[T any](p *plane, r *api.Request, all []T, id func(T) string) (any, error) {
	most, err := topOf(r)
	if err != nil {
		return nil, err
	}
	after, err := skipOf(r)
	if err != nil {
		return nil, err
	}
	key := func(item T) string { return strings.ToLower(id(item)) }
	rest := slices.DeleteFunc(slices.Clone(all), func(item T) bool { return after != "" && key(item) <= after })
	slices.SortStableFunc(rest, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	answer := armwire.Page[T]{Value: rest}
	if answer.Value == nil {
		answer.Value = []T{}
	}
	if len(rest) > most {
		answer.Value = rest[:most]
		answer.Next, err = p.nextLink(r, base64.RawURLEncoding.EncodeToString([]byte(key(rest[most-1]))))
	}
	return answer, err
}

func topOf(r *api.Request) (int, error) {
	text, given, err := r.Query("$top")
	if err != nil || !given || text == "" {
		return largestPage, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, visage.Refuse(visage.Invalid, "InvalidTopInQueryString",
			"$top must be a whole number of 1 or more; got %.20q.", text)
	}
	return min(n, largestPage), nil
}

func skipOf(r *api.Request) (string, error) {
	token, _, err := r.Query("$skiptoken")
	if err != nil {
		return "", err
	}
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", visage.Refuse(visage.Invalid, "InvalidSkipTokenInQueryString",
			"The $skiptoken is not valid: follow the nextLink of this list unchanged.")
	}
	return string(after), nil
}

// nextLink is the address of the same request for the next page, at the configured origin and not at the request's
// Host.
func (p *plane) nextLink(r *api.Request, token string) (string, error) {
	query := url.Values{"$skiptoken": {token}}
	for _, name := range []string{"api-version", "$filter", "$top", "$expand"} {
		value, given, err := r.Query(name)
		if err != nil {
			return "", err
		}
		if given {
			query.Set(name, value)
		}
	}
	address := url.URL{Path: pathOf(r), RawQuery: query.Encode()}
	return strings.TrimSuffix(p.Endpoint(""), "/") + address.String(), nil
}
