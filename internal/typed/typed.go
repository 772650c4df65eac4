// Package typed asks a person on a terminal to type a word, for what nobody should do
// by accident.
package typed

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Word prompts for a word and reads it. asked is false when nobody sits at in; the
// word is empty when nothing was typed.
func Word(in io.Reader, prompts io.Writer, prompt string) (word string, asked bool) {
	f, is := in.(*os.File)
	if !is || !term.IsTerminal(int(f.Fd())) {
		return "", false
	}
	fmt.Fprint(prompts, prompt)
	line, _ := bufio.NewReader(in).ReadString('\n') // what ends without a newline was typed too
	return strings.TrimSpace(line), true
}
