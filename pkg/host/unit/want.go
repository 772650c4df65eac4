package unit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// want is a unit as it should be, with everything filled in.
type want struct {
	unit  plan.Unit
	files files.Snapshot
	hash  string
	// outside is what the files name beyond themselves (Outsider).
	outside string
	// secrets are the values that stand in the files, to keep them out of messages.
	secrets []string
}

// errNoSecret: a file names a secret that isn't there; at boot without etcd none is.
var errNoSecret = errors.New("a secret does not exist")

// resolve fills in the secrets.
func (d *Driver) resolve(u plan.Unit) (want, error) {
	w := want{unit: u}
	missing := ""
	values := plan.Values{Secret: func(name string) ([]byte, bool) {
		v, ok := d.opts.Secret(name)
		if !ok {
			missing = name
		}
		w.secrets = append(w.secrets, string(v))
		return v, ok
	}, Verifier: func(name string, secret []byte) (string, error) {
		text, err := d.verifiers.of(u.Unit, name, secret)
		w.secrets = append(w.secrets, text)
		return text, err
	}}
	for _, f := range u.Files {
		s, err := resolveFile(f, values)
		if missing != "" {
			return w, fmt.Errorf("%w: %w", errNoSecret, &plan.Refusal{
				Reason:  observed.WaitingForSecret,
				Message: fmt.Sprintf("%s needs secret %s, which is not known here (yet)", f.Path, missing),
			})
		}
		if err != nil {
			return w, &plan.Refusal{Reason: observed.Rejected, Message: err.Error()}
		}
		w.files = append(w.files, s)
	}
	if o, ok := d.opts.Programs[u.Program].(Outsider); ok {
		content := map[string][]byte{}
		for _, f := range w.files {
			content[f.Path] = f.Content
		}
		w.outside = o.Outside(content)
	}
	b, err := json.Marshal(struct {
		Unit, Program string
		Files         files.Snapshot
		Outside       string `json:",omitempty"`
	}{u.Unit, u.Program, w.files, w.outside})
	if err != nil {
		return w, fmt.Errorf("hash %s: %w", u.Unit, err)
	}
	sum := sha256.Sum256(b)
	w.hash = hex.EncodeToString(sum[:])
	return w, nil
}

func resolveFile(f plan.File, v plan.Values) (files.Saved, error) {
	// Only an agent that renders the file anew at each failover could keep that promise.
	if strings.Contains(f.Content, "{{primary.") {
		return files.Saved{}, fmt.Errorf("%s: a unit's file can't hold the primary; it does not change with it", f.Path)
	}
	content, err := plan.Expand(f.Content, v)
	if err != nil {
		return files.Saved{}, fmt.Errorf("%s: %w", f.Path, err)
	}
	mode, err := files.ParseMode(f.Mode)
	if err != nil {
		return files.Saved{}, fmt.Errorf("%s: %w", f.Path, err)
	}
	owner := f.Owner
	if owner == "root:root" {
		owner = "" // whom the agent runs as, so that tests need not be root
	}
	return files.Want(f.Path, []byte(content), mode, owner)
}

// sameSource reports whether two units are planned alike, secrets aside.
func sameSource(a, b plan.Unit) bool {
	return a.Unit == b.Unit && a.Program == b.Program && reflect.DeepEqual(a.Files, b.Files)
}

// clean takes secrets out of what programs said (R11). Programs quote the line
// they don't like.
func (w want) clean(err error) error {
	if err == nil {
		return nil
	}
	strip := func(s string) string {
		for _, secret := range w.secrets {
			for _, spelt := range []string{
				secret,
				strings.ReplaceAll(secret, "'", "''"), // as plan.Expand quotes it
				strings.ReplaceAll(secret, `"`, `""`),
				strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(secret),
			} {
				if spelt != "" {
					s = strings.ReplaceAll(s, spelt, "***")
				}
			}
		}
		return s
	}
	var r *plan.Refusal
	if errors.As(err, &r) {
		clean := *r
		clean.Message = strip(r.Message)
		return &clean
	}
	if s := strip(err.Error()); s != err.Error() {
		return errors.New(s)
	}
	return err
}

// unstage removes the staged files, those of a killed agent too: there is one
// folder per unit.
func (d *Driver) unstage(unit string) error {
	if err := os.RemoveAll(d.stageDir(unit)); err != nil {
		return fmt.Errorf("remove staged files of %s: %w", unit, err)
	}
	return nil
}

func (d *Driver) stageDir(unit string) string { return filepath.Join(d.opts.StateDir, "stage", unit) }

// stage writes the files into a private folder.
func (d *Driver) stage(w want) (Staged, error) {
	dir := d.stageDir(w.unit.Unit)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Staged{}, fmt.Errorf("stage %s: %w", w.unit.Unit, err)
	}
	s := Staged{Unit: w.unit, Dir: dir, Paths: make(map[string]string, len(w.files))}
	seen := map[string]string{}
	for _, f := range w.files {
		base := filepath.Base(f.Path)
		if other, twice := seen[base]; twice {
			return s, fmt.Errorf("stage %s: %s and %s have one base name", w.unit.Unit, other, f.Path)
		}
		seen[base], s.Paths[f.Path] = f.Path, filepath.Join(dir, base)
		if err := d.journal.fs.AtomicWrite(s.Paths[f.Path], f.Content, 0o600, ""); err != nil {
			return s, fmt.Errorf("stage %s: %w", w.unit.Unit, err)
		}
	}
	return s, nil
}
