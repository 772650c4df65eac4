package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func formatFlag(c *cobra.Command, format *string) {
	c.Flags().StringVarP(format, "output", "o", "table", "table or json")
}

// emit prints v as asked for; table prints it for people.
func (a *app) emit(format string, v any, table func()) error {
	switch format {
	case "json":
		e := json.NewEncoder(a.Out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	case "table":
		table()
		return nil
	}
	return fmt.Errorf("--output: expected table or json, found %q", format)
}

// style colours text on a terminal, and nowhere else (https://no-color.org).
type style bool

func (a *app) style() style {
	f, ok := a.Out.(*os.File)
	return style(ok && term.IsTerminal(int(f.Fd())) && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb")
}

func (s style) wrap(code, text string) string {
	if !s || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(t string) string   { return s.wrap("1", t) }
func (s style) red(t string) string    { return s.wrap("31", t) }
func (s style) green(t string) string  { return s.wrap("32", t) }
func (s style) yellow(t string) string { return s.wrap("33", t) }

// table aligns columns. Colour is given by cell, after the widths are known.
type table struct {
	heads  []string
	rows   [][]string
	paint  func(column int, cell string, s style) string
	indent string
}

func newTable(heads ...string) *table { return &table{heads: heads} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer, s style) {
	if len(t.rows) == 0 {
		return
	}
	widths := make([]int, len(t.heads))
	for _, row := range append([][]string{t.heads}, t.rows...) {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for n, row := range append([][]string{t.heads}, t.rows...) {
		var b strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2)
			switch {
			case n == 0:
				c = s.bold(c)
			case t.paint != nil:
				c = t.paint(i, c, s)
			}
			b.WriteString(c + pad)
		}
		fmt.Fprintln(w, t.indent+strings.TrimRight(b.String(), " "))
	}
}
