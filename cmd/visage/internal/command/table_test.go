package command_test

import (
	"bytes"
	"testing"

	"github.com/visage-face/visage/cmd/visage/internal/command"
)

func TestTableLinesColumnsUp(t *testing.T) {
	var table command.Table
	table.Row("NAME", "STATE", "NOTE")
	table.Row("ärger", "active", "")
	table.Row("b", "", "x")
	table.Line("")
	table.Line("%d of them", 2)
	table.Row("A", "B")
	table.Row("longer", 7)
	var out bytes.Buffer
	if err := table.Write(&out); err != nil {
		t.Fatal(err)
	}
	const want = "NAME   STATE   NOTE\n" +
		"ärger  active  \n" +
		"b              x\n" +
		"\n" +
		"2 of them\n" +
		"A       B\n" +
		"longer  7\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestProgressIsLinesWhereThereIsNoTerminal(t *testing.T) {
	var out bytes.Buffer
	p := command.Progress{W: &out, What: "photos", Every: 2}
	for i := 1; i <= 5; i++ {
		p.Done(i, 5)
	}
	if want := "2 of 5 photos\n4 of 5 photos\n5 of 5 photos\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
