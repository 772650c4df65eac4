package trace

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// The picture's measures, in pixels.
const (
	width     = 1120
	plotFrom  = 430
	plotTo    = 1080
	rowHeight = 22
	headRoom  = 118
	footRoom  = 34
)

// spans are the parts of a move that the picture shades: what clients had of it.
type span struct {
	from, to    float64
	fill, label string
}

// nodeColours tell nodes apart; they are as far from one another for people who see fewer colours
// (Okabe and Ito's palette, without its yellow).
var nodeColours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555"}

// SVG is the story as one picture that stands by itself, to be put into a report.
func (s Story) SVG() string {
	end := s.lastOwn()
	x := func(at float64) float64 {
		at = min(max(at, 0), end)
		return plotFrom + at/end*(plotTo-plotFrom)
	}
	height := headRoom + len(s.Steps)*rowHeight + footRoom
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="13" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(s.Title()))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	text(&b, 20, 30, 18, "#111111", "bold", s.Title())
	text(&b, 20, 52, 13, "#444444", "normal", s.Began.UTC().Format("2006-01-02 15:04:05.000")+" UTC; epoch "+fmt.Sprint(s.Epoch)+s.ClockWords())
	text(&b, 20, 74, 13, "#111111", "normal", s.Summary())
	bottom := float64(headRoom + len(s.Steps)*rowHeight)
	for _, sp := range s.spans(end) {
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x(sp.from), headRoom-22, x(sp.to)-x(sp.from), bottom-headRoom+22, sp.fill)
		if x(sp.to)-x(sp.from) > float64(7*len(sp.label)) {
			text(&b, x(sp.from)+4, headRoom-8, 11, "#555555", "normal", sp.label)
		}
	}
	for _, tick := range ticks(end) {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%.1f" stroke="#cccccc"/>`+"\n", x(tick), headRoom-22, x(tick), bottom)
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle" font-size="11" fill="#555555">%s</text>`+"\n", x(tick), bottom+18, InWords(tick))
	}
	nodes := s.nodes()
	for i, st := range s.Steps {
		y := float64(headRoom + i*rowHeight)
		colour, weight := "#888888", "normal"
		if !st.Beside && st.Node != "" {
			colour = nodeColours[slices.Index(nodes, st.Node)%len(nodeColours)]
		}
		if s.Milestone(st) {
			weight = "bold"
		}
		text(&b, 20, y+15, 12, colour, weight, st.Node)
		text(&b, 112, y+15, 12, "#111111", weight, cut(st.Text, 50))
		cy := y + rowHeight/2
		switch {
		case st.Ms < 0 || st.Ms > end:
			at, anchor, dx, mark := x(st.Ms), "start", 10.0, "&#9664;"
			if st.Ms > end {
				anchor, dx, mark = "end", -10.0, "&#9654;"
			}
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle" font-size="10" fill="%s">%s</text>`+"\n", at, cy+4, colour, mark)
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="11" fill="#555555">%s</text>`+"\n", at+dx, cy+4, anchor, InWords(st.Ms))
		default:
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4.5" fill="%s"/>`+"\n", x(st.Ms), cy, colour)
			anchor, dx := "start", 9.0
			if x(st.Ms) > plotTo-70 {
				anchor, dx = "end", -9.0
			}
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="11" fill="#333333">%s</text>`+"\n", x(st.Ms)+dx, cy+4, anchor, InWords(st.Ms))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func text(b *strings.Builder, x, y float64, size int, fill, weight, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" font-size="%d" fill="%s" font-weight="%s">%s</text>`+"\n", x, y, size, fill, weight, html.EscapeString(s))
}

// cut shortens a line that would run into the plot; n is how many letters fit.
func cut(s string, n int) string {
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n-1]) + "…"
}

// lastOwn is where the picture ends: a little after the last step of the move itself.
func (s Story) lastOwn() float64 {
	end := 1.0
	for _, st := range s.Steps {
		if !st.Beside {
			end = max(end, st.Ms)
		}
	}
	if w := s.Took.Writes; w != nil && end > 4**w && *w > 0 {
		end = 4 * *w // a node that was away follows minutes later; that is no reason to see nothing
	}
	return end * 1.08
}

func (s Story) spans(end float64) []span {
	var out []span
	at := 0.0
	for _, p := range []struct {
		to          *float64
		fill, label string
	}{
		{s.Took.Taken, "#f8d7d4", "nobody leads"}, {s.Took.Confirmed, "#fde8c8", "promotion"}, {s.Took.Writes, "#fff7cf", "clients follow"},
	} {
		if p.to != nil && *p.to > at {
			out = append(out, span{at, *p.to, p.fill, p.label})
			at = *p.to
		}
	}
	if s.Took.Writes != nil && end > at {
		out = append(out, span{at, end, "#e4f3e4", "writes"})
	}
	return out
}

// Milestone reports the steps that the durations are told by.
func (s Story) Milestone(st Step) bool {
	if st.Beside {
		return false
	}
	for _, at := range []*float64{s.Took.Taken, s.Took.Confirmed, s.Took.Writes} {
		if at != nil && *at == st.Ms {
			return true
		}
	}
	return st.Ms == 0
}

func (s Story) nodes() []string {
	var out []string
	for _, st := range s.Steps {
		if st.Node != "" && !slices.Contains(out, st.Node) {
			out = append(out, st.Node)
		}
	}
	slices.Sort(out)
	return out
}

// ticks are round times, at most eight.
func ticks(end float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10(end)))
	for _, part := range []float64{0.1, 0.2, 0.5, 1} {
		if end/(step*part) <= 8 {
			step *= part
			break
		}
	}
	var out []float64
	for at := 0.0; at <= end; at += step {
		out = append(out, at)
	}
	return out
}

// InWords is a number of milliseconds as a person reads it.
func InWords(v float64) string {
	switch a := math.Abs(v); {
	case a >= 60_000:
		return fmt.Sprintf("%.1f min", v/60_000)
	case a >= 10_000:
		return fmt.Sprintf("%.1f s", v/1000)
	case a >= 10 || a == 0:
		return fmt.Sprintf("%.0f ms", v)
	}
	return fmt.Sprintf("%.1f ms", v)
}
