package unit

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Retirer is a Program that keeps something of a unit besides its files.
type Retirer interface {
	// Retire removes it. The unit is stopped. Doing it again is no error.
	Retire(u plan.Unit) error
}

// Known lists the units that a driver with this state folder has made and not
// removed, by name: what has to go when the host is given back.
func Known(stateDir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(stateDir, "units", "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	var out []string
	for _, f := range found {
		out = append(out, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	slices.Sort(out)
	return out, nil
}

// retire lets the program clear up after the unit.
func (t *task) retire() error {
	if r, ok := t.prog.(Retirer); ok {
		return r.Retire(t.want.unit)
	}
	return nil
}
