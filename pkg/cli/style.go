package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// style colours text, or doesn't: only for a terminal, and never when NO_COLOR is
// set (https://no-color.org) or the terminal is dumb.
type style struct {
	on  bool
	tty bool
	// width is the terminal's; 0 when it is none.
	width int
}

func styleFor(w io.Writer, getenv func(string) string) style {
	f, ok := w.(*os.File)
	tty := ok && term.IsTerminal(int(f.Fd()))
	s := style{tty: tty, on: tty && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
	if tty {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			s.width = w
		}
	}
	return s
}

func (s style) wrap(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(t string) string   { return s.wrap("1", t) }
func (s style) dim(t string) string    { return s.wrap("2", t) }
func (s style) red(t string) string    { return s.wrap("31", t) }
func (s style) green(t string) string  { return s.wrap("32", t) }
func (s style) yellow(t string) string { return s.wrap("33", t) }
