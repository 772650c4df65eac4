package cli

import (
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// table aligns columns by what is visible, so that colours cost no width.
// A column whose head begins with ">" is aligned to the right.
type table struct {
	heads []string
	rows  [][]string
	style style
}

func newTable(s style, heads ...string) *table { return &table{heads: heads, style: s} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// columnGap separates columns: enough for the eye, and cut and awk are happy.
const columnGap = "  "

// leastText is the width under which wrapping a column helps nobody.
const leastText = 30

// wrapped breaks the last column into lines that fit a terminal. Elsewhere a row
// stays a line, for grep.
func (t *table) wrapped(rows [][]string, widths []int) [][]string {
	last := len(t.heads) - 1
	room := t.style.width
	for _, w := range widths[:last] {
		room -= w + len(columnGap)
	}
	if t.style.width == 0 || room < leastText || widths[last] <= room {
		return rows
	}
	widths[last] = room
	var out [][]string
	for _, row := range rows {
		if len(row) <= last || visible(row[last]) <= room {
			out = append(out, row)
			continue
		}
		for i, line := range wrap(row[last], room) {
			next := make([]string, last+1)
			if i == 0 {
				copy(next, row[:last])
			}
			next[last] = line
			out = append(out, next)
		}
	}
	return out
}

// wrap breaks text between words.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(s) {
		if line != "" && visible(line)+1+visible(w) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return append(lines, line)
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

func visible(s string) int { return utf8.RuneCountInString(escapes.ReplaceAllString(s, "")) }

// write prints head and rows; a table without rows prints nothing.
func (t *table) write(w io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	head := make([]string, len(t.heads))
	right := make([]bool, len(t.heads))
	widths := make([]int, len(t.heads))
	for i, h := range t.heads {
		name, r := strings.CutPrefix(h, ">")
		head[i], right[i], widths[i] = t.style.bold(name), r, visible(name)
	}
	for _, row := range t.rows {
		for i, c := range row {
			if i < len(widths) {
				widths[i] = max(widths[i], visible(c))
			}
		}
	}
	for _, row := range t.wrapped(append([][]string{head}, t.rows...), widths) {
		var b strings.Builder
		for i, c := range row {
			if i > 0 {
				b.WriteString(columnGap)
			}
			pad := ""
			if i < len(widths) {
				pad = strings.Repeat(" ", widths[i]-visible(c))
			}
			if i < len(right) && right[i] {
				b.WriteString(pad + c)
			} else {
				b.WriteString(c + pad)
			}
		}
		io.WriteString(w, strings.TrimRight(b.String(), " ")+"\n")
	}
}
