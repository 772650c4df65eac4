// Package docgen is what the programs behind `make generate` share: pages that are
// the same bytes whenever the code is the same.
package docgen

import (
	"fmt"
	"os"
	"strings"
)

// Made begins a page; from names what it is made from.
func Made(title, from string) string {
	return "# " + title + "\n\nMade by `make generate` from " + from + "; do not edit.\n"
}

// Main runs a generator: write gets the paths that its go:generate line names, one
// for each of names.
func Main(write func(paths []string) error, names ...string) {
	if len(os.Args)-1 != len(names) {
		fmt.Fprintln(os.Stderr, "usage: gen", strings.Join(names, " "))
		os.Exit(1)
	}
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// Pages writes texts to files, in order.
func Pages(paths []string, texts ...string) error {
	for i, text := range texts {
		if err := os.WriteFile(paths[i], []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Table is a table of a page.
type Table struct{ b strings.Builder }

// NewTable begins a table with its heads.
func NewTable(heads ...string) *Table {
	t := &Table{}
	t.Row(heads...)
	t.b.WriteString(strings.Repeat("|---", len(heads)) + "|\n")
	return t
}

// Row adds a row; a "|" in a cell stays a character.
func (t *Table) Row(cells ...string) {
	for _, c := range cells {
		t.b.WriteString("| " + strings.ReplaceAll(Text(c), "|", `\|`) + " ")
	}
	t.b.WriteString("|\n")
}

// Text is prose as Markdown: a "<" outside of `code` begins no HTML.
func Text(s string) string {
	parts := strings.Split(s, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = strings.ReplaceAll(parts[i], "<", "&lt;")
	}
	return strings.Join(parts, "`")
}

// String is the table as Markdown.
func (t *Table) String() string { return t.b.String() }
