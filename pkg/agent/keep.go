package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// kept is a plan as it waits on disk for a start without etcd. Epochs are never
// kept: who leads is only ever learnt from etcd (ROLES section 7).
type kept struct {
	Revision int64     `json:"revision"`
	Plan     plan.Plan `json:"plan"`
	// Removed says that the plan is a removal and that it is done.
	Removed string `json:"removed,omitempty"`
}

// keeper stores the last good plan of every cluster and concern.
type keeper struct{ dir string }

func (k keeper) folder(cluster string) string { return filepath.Join(k.dir, "plans", cluster) }

func (k keeper) path(cluster, concern string) string {
	return filepath.Join(k.folder(cluster), concern+".json")
}

// save replaces a kept plan atomically. Mode 0600: plans hold no secret, and
// nobody else has business reading them either.
func (k keeper) save(cluster, concern string, p kept) error {
	return k.put(k.path(cluster, concern), p)
}

// put replaces one of the files atomically.
func (k keeper) put(path string, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = renameio.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", path, err)
	}
	return nil
}

// load reads one kept plan.
func (k keeper) load(cluster, concern string) (kept, error) {
	var out kept
	b, err := os.ReadFile(k.path(cluster, concern))
	if err != nil {
		return out, fmt.Errorf("read kept plan %s/%s: %w", cluster, concern, err)
	}
	var raw struct {
		Revision int64           `json:"revision"`
		Plan     json.RawMessage `json:"plan"`
		Removed  string          `json:"removed"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return out, fmt.Errorf("read kept plan %s/%s: %w", cluster, concern, err)
	}
	if out.Plan, err = plan.Decode(raw.Plan); err != nil {
		return out, fmt.Errorf("read kept plan %s/%s: %w", cluster, concern, err)
	}
	out.Revision, out.Removed = raw.Revision, raw.Removed
	return out, nil
}

// forget removes a kept plan, and the cluster's folder with the last one.
func (k keeper) forget(cluster, concern string) error {
	if err := os.Remove(k.path(cluster, concern)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget plan %s/%s: %w", cluster, concern, err)
	}
	_ = os.Remove(k.writtenPath(cluster, concern)) // most have none
	_ = os.Remove(k.folder(cluster))               // only an empty one goes
	return nil
}

// all reads every kept plan, by cluster and concern. One that can't be read is
// reported and left out; it hinders no other.
func (k keeper) all() (map[string]map[string]kept, error) {
	out := map[string]map[string]kept{}
	files, err := filepath.Glob(filepath.Join(k.dir, "plans", "*", "*.json"))
	if err != nil {
		return out, fmt.Errorf("list kept plans: %w", err)
	}
	var errs []error
	for _, f := range files {
		cluster, concern := filepath.Base(filepath.Dir(f)), filepath.Base(f)
		concern = concern[:len(concern)-len(".json")]
		p, err := k.load(cluster, concern)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if out[cluster] == nil {
			out[cluster] = map[string]kept{}
		}
		out[cluster][concern] = p
	}
	return out, errors.Join(errs...)
}

// LoadKept reads one plan that an agent with this state directory kept; false
// when there is none. For commands that must work while the agent does not.
func LoadKept(stateDir, cluster, concern string) (plan.Plan, bool, error) {
	p, err := keeper{stateDir}.load(cluster, concern)
	if errors.Is(err, fs.ErrNotExist) {
		return plan.Plan{}, false, nil
	}
	return p.Plan, err == nil, err
}

// KeptFiles are the files by themselves of the plans that an agent with this state
// directory kept, by cluster: what it leaves on the host beside its units. A plan that
// can't be read is in the error and the others are returned.
func KeptFiles(stateDir string) (map[string][]plan.Watched, error) {
	all, err := keeper{stateDir}.all()
	out := map[string][]plan.Watched{}
	for cluster, concerns := range all {
		for _, k := range concerns {
			for _, r := range k.Plan.Resources {
				if w, ok := r.(plan.Watched); ok {
					out[cluster] = append(out[cluster], w)
				}
			}
		}
	}
	return out, err
}
