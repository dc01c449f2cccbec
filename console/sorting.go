package console

import (
	"slices"
	"strings"
)

// order is a column by which a table can be sorted.
type order[R any] struct {
	name    string // in addresses
	heading string // the key of its message
	compare func(a, b R) int
}

// column is the heading of a column by which a table can be sorted.
type column struct {
	Text, To string
	Sorted   string // "ascending" or "descending"; empty: the table is not sorted by it
}

// sortRows sorts rows as the field "sort" of the request says: by the named column, or, after "-", in reverse. Without
// the field they stay as they are. It returns the headings of the columns, which lead to the page sorted by them.
func sortRows[R any](v *visit, page string, all []R, orders []order[R]) []column {
	by, reverse := strings.CutPrefix(v.field("sort"), "-")
	var columns []column
	for _, o := range orders {
		c := column{Text: v.text(o.heading), To: page + "?" + query("sort", o.name)}
		if o.name == by {
			slices.SortStableFunc(all, o.compare)
			if c.Sorted = "descending"; reverse {
				slices.Reverse(all)
			} else {
				c.Sorted, c.To = "ascending", page+"?"+query("sort", "-"+o.name)
			}
		}
		columns = append(columns, c)
	}
	return columns
}
