package console

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// order is a column of a table.
type order[R any] struct {
	name    string       // in addresses; the tables of one page have none in common
	heading string       // the key of its message
	rank    func(R) rank // by which the rows are sorted; nil: they cannot be
	number  bool         // its cells are numbers
}

// rank is the place of a row among others: by the text, then by the number.
type rank struct {
	text   string
	number int64
}

// byText sorts by a text, without regard to case and accents.
func byText[R any](text func(R) string) func(R) rank {
	return func(r R) rank { return rank{text: sortable(text(r))} }
}

// byTime sorts by a time; those without one come first.
func byTime[R any](at func(R) time.Time) func(R) rank {
	return func(r R) rank {
		if t := at(r); !t.IsZero() {
			return rank{number: t.UnixMicro()}
		}
		return rank{}
	}
}

// byEnd sorts by when something ends; what has no end comes last.
func byEnd[R any](at func(R) time.Time) func(R) rank {
	return func(r R) rank {
		if t := at(r); !t.IsZero() {
			return rank{number: t.UnixMicro()}
		}
		return rank{number: math.MaxInt64}
	}
}

// byNumber sorts by a number.
func byNumber[R any](n func(R) int) func(R) rank {
	return func(r R) rank { return rank{number: int64(n(r))} }
}

// sortable is a text without case and accents: "Émile" comes between "Ada" and "Zoé".
func sortable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(strings.ToLower(text)))
}

// column is the heading of a column.
type column struct {
	Text   string
	To     string // the page sorted by it; empty: it cannot be
	Sorted string // "ascending" or "descending"; empty: the table is not sorted by it
	Number bool
	Keep   string // what a search keeps in the field "sort"; empty: nothing
}

// sortRows sorts all rows of a table as the field "sort" of the address says: by the column of that name, or, after
// "-", in reverse. The rows come in the order natural, such as "name" or "-created"; empty: in one that no column has.
// They keep it when the address names no column by which they can be sorted. The headings that it returns lead to the
// page sorted by them.
func sortRows[R any](v *visit, page string, all []R, natural string, orders []order[R]) []column {
	by := v.inAddress("sort")
	i := chosen(by, orders)
	if i < 0 {
		by = natural
	}
	wanted, reverse := strings.CutPrefix(by, "-")
	switch {
	case by == natural:
	case wanted == strings.TrimPrefix(natural, "-"):
		slices.Reverse(all)
	default:
		sortBy(all, orders[i].rank, reverse)
	}
	columns := make([]column, len(orders))
	for i, o := range orders {
		c := &columns[i]
		c.Text, c.Number = v.text(o.heading), o.number
		to := o.name
		switch {
		case o.name != wanted:
		case reverse:
			c.Sorted = "descending"
		default:
			c.Sorted, to = "ascending", "-"+to
		}
		if c.Sorted != "" && by != natural {
			c.Keep = by
		}
		if to == natural {
			to = ""
		}
		if o.rank != nil {
			c.To = v.otherRows(page, "sort", to) // its first rows: a place in one order is none in another
		}
	}
	return columns
}

// sortBy sorts rows by their ranks; those of the same rank keep their order. reverse turns all of them round.
func sortBy[R any](all []R, rankOf func(R) rank, reverse bool) {
	type ranked struct {
		rank
		row R
	}
	sorted := make([]ranked, len(all))
	for i, r := range all {
		sorted[i] = ranked{rankOf(r), r}
	}
	slices.SortStableFunc(sorted, func(a, b ranked) int {
		return cmp.Or(strings.Compare(a.text, b.text), cmp.Compare(a.number, b.number))
	})
	for i, r := range sorted {
		all[i] = r.row
	}
	if reverse {
		slices.Reverse(all)
	}
}

// table is a table of a page: some of the rows that there are, in an order that the visitor chooses.
type table[R any] struct {
	Columns []column
	Rows    []R
	More    string // the address of the next rows; empty: these are the last
}

// tabled is a table of rows that are all known: sorted as sortRows does, and paged.
func tabled[R any](v *visit, page string, all []R, natural string, orders []order[R]) (t table[R]) {
	t.Columns = sortRows(v, page, all, natural, orders)
	t.Rows, t.More = paged(v, page, all)
	return t
}

// mostSorted is how many rows are read to sort them, from a service that lists them in its own order, natural, page by
// page. A longer table has that order alone: to sort the rows of a page would show the first of those, and not of all.
const mostSorted = 1_000

// listed is a table of what a service lists page by page, count in all. read returns at most top of them from a start
// on, and the next start; empty: there are no more.
func listed[R any](
	v *visit, page string, count int, natural string, orders []order[R],
	read func(start string, top int) (some []R, next string, err error),
) (t table[R], err error) {
	if count > mostSorted {
		orders = slices.Clone(orders)
		for i := range orders {
			orders[i].rank = nil
		}
	}
	if by := v.inAddress("sort"); by != natural && chosen(by, orders) >= 0 {
		all, _, err := read("", mostSorted)
		if err != nil {
			return t, err
		}
		return tabled(v, page, all, natural, orders), nil
	}
	t.Columns = sortRows(v, page, nil, natural, orders)
	var next string
	if t.Rows, next, err = read(v.inAddress("after"), rows); next != "" {
		t.More = v.otherRows(page, "after", next)
	}
	return t, err
}

// chosen is the column that the field "sort" of an address names; -1: there is none, or it cannot be sorted by.
func chosen[R any](by string, orders []order[R]) int {
	name := strings.TrimPrefix(by, "-")
	return slices.IndexFunc(orders, func(o order[R]) bool { return o.rank != nil && o.name == name })
}

// paged returns the rows of a page that begins after as many as the field "skip" of the address says, and the address
// of the next; empty: this is the last.
func paged[R any](v *visit, page string, all []R) (some []R, more string) {
	skip, _ := strconv.Atoi(v.inAddress("skip")) // what is no number shows the first page
	skip = min(max(skip, 0), len(all))
	end := min(skip+rows, len(all))
	if end < len(all) {
		more = v.otherRows(page, "skip", strconv.Itoa(end))
	}
	return all[skip:end], more
}

// inAddress is a field of the address of a page; on the page that answers a form it is empty.
func (v *visit) inAddress(name string) string {
	if v.sends() {
		return ""
	}
	return v.field(name)
}

// narrowing are the fields of addresses that say which rows a page shows, and in which order. What leads on to others
// of them keeps these fields.
var narrowing = []string{"search", "sort", "outcome", "actor", "resource", "from", "to"}

// otherRows is the address of other rows of what a page shows: with a field, and what the address of this page has of
// narrowing. page may have a query, which says what the rows are of.
func (v *visit) otherRows(page, name, value string) string {
	pairs := []string{name, value}
	for _, kept := range narrowing {
		if kept != name {
			pairs = append(pairs, kept, v.inAddress(kept))
		}
	}
	if path, of, has := strings.Cut(page, "?"); has {
		return path + "?" + strings.TrimSuffix(of+"&"+query(pairs...), "&")
	}
	return withQuery(page, pairs...)
}
