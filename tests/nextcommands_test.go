package tests

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/agent/command"
	"github.com/pgctrl/pgctrl/pkg/cli"
)

// programs are the trees of commands by program.
var programs = map[string]*cobra.Command{"pgctrl": cli.Commands(), "pgagent": command.Commands()}

var (
	// named is a command line anywhere in a text that is known to be advice.
	named = regexp.MustCompile(`\b(pgctrl|pgagent) ([a-z-][^\n]*)`)
	// shown is one in prose: in backquotes, after a colon or a bracket, or as a
	// line of a listing, with a prompt or without.
	shown = regexp.MustCompile("(?m)(?:`|:\\s+|\\(|^ {4,}(?:\\S*#\\s+)?)(pgctrl|pgagent) ([a-z-][^\\n`]*)")
)

// TestNextCommandsExist: whoever follows advice must not be told that there is no
// such command. Advice is what is assigned to Next, the examples of commands, what
// follows an error, and what other texts show as a command.
func TestNextCommandsExist(t *testing.T) {
	seen := 0
	check := func(place, text string, pattern *regexp.Regexp) {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			seen++
			if err := resolve(programs[m[1]], m[2]); err != nil {
				t.Errorf("%s: %s %s: %v", place, m[1], strings.TrimSpace(m[2]), err)
			}
		}
	}
	eachGoFile(t, func(path string) {
		if strings.HasPrefix(path, "pkg/") && !strings.HasSuffix(path, "_test.go") {
			eachText(t, path, check)
		}
	})
	for path, text := range texts(t, []string{".tmpl", ".service"}, "pkg", "configs/systemd") {
		check(path, text, shown)
	}
	for page, text := range pages(t) {
		check(page, text, shown)
	}
	if seen < 200 {
		t.Errorf("found %d commands; this test looks at too few", seen)
	}
}

// eachText hands over every string literal of a file, and by which pattern to look
// for commands in it.
func eachText(t *testing.T, path string, check func(place, text string, pattern *regexp.Regexp)) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, filepath.Join("..", path), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	advice := map[*ast.BasicLit]bool{}
	mark := func(exprs ...ast.Expr) {
		for _, e := range exprs {
			ast.Inspect(e, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok {
					advice[lit] = true
				}
				return true
			})
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if k, ok := n.Key.(*ast.Ident); ok && (k.Name == "Next" || k.Name == "Example") {
				mark(n.Value)
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if s, ok := left.(*ast.SelectorExpr); ok && s.Sel.Name == "Next" && len(n.Lhs) == len(n.Rhs) {
					mark(n.Rhs[i])
				}
			}
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "then" {
				mark(n.Args...)
			}
		case *ast.ReturnStmt: // of a function that composes one command
			if len(n.Results) == 1 && begins(n.Results[0]) {
				mark(n.Results...)
			}
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			if n.Kind != token.STRING || err != nil {
				return true
			}
			pattern := shown
			if advice[n] || strings.Contains(text, "next: ") || strings.Contains(text, "next, ") {
				pattern = named
			}
			check(fmt.Sprintf("%s:%d", path, files.Position(n.Pos()).Line), text, pattern)
		}
		return true
	})
}

// begins reports whether an expression is a text that begins with a program.
func begins(e ast.Expr) bool {
	if sum, ok := e.(*ast.BinaryExpr); ok {
		return begins(sum.X)
	}
	lit, ok := e.(*ast.BasicLit)
	return ok && (strings.HasPrefix(lit.Value, `"pgctrl `) || strings.HasPrefix(lit.Value, `"pgagent `))
}

// resolve follows the words of a command line as far as they name commands and
// flags. Arguments are not looked at.
func resolve(c *cobra.Command, line string) error {
	for _, word := range strings.Fields(line) {
		if strings.ContainsAny(word[:1], "(|&>") {
			return nil // what comes is about the command, or another one
		}
		clean := strings.TrimRight(word, "`),.;:\"'")
		switch {
		case strings.HasPrefix(clean, "-"):
			if err := hasFlag(c, clean); err != nil {
				return err
			}
		case c.HasSubCommands() && !strings.HasPrefix(clean, "<"):
			sub, _, err := c.Find([]string{clean})
			if sub == c && strings.Contains(c.Use, " <cluster>") {
				continue // it takes an argument beside its commands, as backup does
			}
			if err != nil || sub == c {
				return fmt.Errorf("%s has no command %s", c.CommandPath(), clean)
			}
			c = sub
		}
		if clean != word {
			return nil
		}
	}
	return nil
}

func hasFlag(c *cobra.Command, word string) error {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	c.InheritedFlags() // adds the parents' flags to its own
	found := c.Flags().Lookup(name)
	if !strings.HasPrefix(word, "--") && len(name) == 1 {
		found = c.Flags().ShorthandLookup(name)
	}
	if found == nil && name != "help" {
		return fmt.Errorf("%s has no flag %s", c.CommandPath(), word)
	}
	return nil
}
