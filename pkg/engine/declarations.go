package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// Declaration is what one controller reads and writes.
type Declaration struct {
	Controller string
	Inputs     []controllers.Access
	Outputs    []controllers.Access
}

// ErrDeclaration means that controllers' declarations can't be, or don't go
// together.
var ErrDeclaration = errors.New("controller declarations")

// checkDeclarations refuses controllers under one name, families that are not
// mirrored, and two writers of one key. A conflict of writers is thus found before
// anything is written, and not by their overwriting one another for ever.
func checkDeclarations(a atlas, list []controllers.Controller) error {
	names := map[string]bool{}
	type writer struct {
		name string
		controllers.Access
	}
	var writers []writer
	for _, c := range list {
		if names[c.Name()] {
			return fmt.Errorf("%w: two controllers are named %s", ErrDeclaration, c.Name())
		}
		names[c.Name()] = true
		for _, in := range c.Inputs() {
			if _, ok := a.family(in.Family); !ok {
				return fmt.Errorf("%w: %s reads %q, which the engine does not mirror", ErrDeclaration, c.Name(), in.Family)
			}
		}
		for _, out := range c.Outputs() {
			if _, ok := a.family(out.Family); !ok {
				return fmt.Errorf("%w: %s writes %q, which the engine does not mirror", ErrDeclaration, c.Name(), out.Family)
			}
			if out.Family == keys.PatroniKey {
				return fmt.Errorf("%w: %s writes Patroni's keys, which Patroni alone does", ErrDeclaration, c.Name())
			}
			for _, w := range writers {
				if w.Family == out.Family && (w.Part == "" || out.Part == "" || w.Part == out.Part) {
					return fmt.Errorf("%w: both %s and %s write %s", ErrDeclaration, w.name, c.Name(), accessName(out))
				}
			}
		}
		for _, out := range c.Outputs() {
			writers = append(writers, writer{c.Name(), out})
		}
	}
	return nil
}

// Describe returns every controller's declarations.
func (e *Engine) Describe() []Declaration {
	var out []Declaration
	for _, c := range e.controllers {
		out = append(out, Declaration{Controller: c.Name(), Inputs: c.Inputs(), Outputs: c.Outputs()})
	}
	return out
}

// Graph is the controllers and the keys between them, as a Mermaid flowchart.
func (e *Engine) Graph() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for _, d := range e.Describe() {
		fmt.Fprintf(&b, "    %s((%s))\n", d.Controller, d.Controller)
		for _, a := range d.Inputs {
			arrow := "-->"
			if a.Fleet {
				arrow = "-- every cluster -->"
			}
			fmt.Fprintf(&b, "    %s %s %s\n", accessNode(a), arrow, d.Controller)
		}
		for _, a := range d.Outputs {
			fmt.Fprintf(&b, "    %s ==> %s\n", d.Controller, accessNode(a))
		}
	}
	return b.String()
}

func accessName(a controllers.Access) string {
	if a.Part == "" {
		return string(a.Family)
	}
	return string(a.Family) + " " + a.Part
}

func accessNode(a controllers.Access) string {
	id := strings.NewReplacer("/", "_", " ", "_", ".", "_", "-", "_").Replace(accessName(a))
	return fmt.Sprintf("k_%s[%q]", id, accessName(a))
}
