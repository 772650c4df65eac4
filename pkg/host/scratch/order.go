package scratch

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Target is where recovery ends.
type Target = plan.RecoveryTarget

// Result is what came of it.
type Result = observed.Recovered

// Order is one scratch restore.
type Order struct {
	// Step is the step's name, which tells one order from another.
	Step string `json:"step"`
	// Dir is the folder that it is in: made anew, of PostgreSQL's user alone. It must not
	// exist unless it is this step's own.
	Dir string `json:"dir"`
	// Bin is the folder of PostgreSQL's programs.
	Bin string `json:"bin"`
	// Backup is pgBackRest's label.
	Backup string `json:"backup"`
	Target Target `json:"target"`
	// Offline: WAL is fetched before, and PostgreSQL runs without network and without sight
	// of the repository. Otherwise it asks the repository for what it needs.
	Offline bool `json:"offline,omitempty"`
	// Keep: <dir>/data stays, promoted and shut down cleanly. Otherwise all goes with End.
	Keep bool `json:"keep,omitempty"`
	// Heartbeat is the id of a heartbeat that has to be there after recovery; empty: none.
	Heartbeat string `json:"heartbeat,omitempty"`
}

// Run is a scratch restore as it was found.
type Run struct {
	// Step is the step that it is for; empty: there is none.
	Step string
	// Running: it goes on. Otherwise it has ended, with Err or Result.
	Running  bool
	Err      error
	Progress *observed.Progress
	// Message says what it is at.
	Message string
	Result  *Result
}

// job is an order as the programs in the units get it.
type job struct {
	Order
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Config is pgBackRest's file.
	Config string `json:"config"`
	// Pgbackrest is the program.
	Pgbackrest string `json:"pgbackrest"`
}

// The parts of a folder.
func (o Order) data() string            { return o.Dir + "/data" }
func (o Order) wal() string             { return o.Dir + "/wal" }
func (o Order) socket() string          { return o.Dir + "/s" }
func (o Order) file(name string) string { return o.Dir + "/" + name }
func (o Order) program(n string) string { return o.Bin + "/" + n }

const (
	orderFile   = "order.json"
	fetchedFile = "fetched.json"
	atFile      = "at.json"
	failedFile  = "failed.json"
	resultFile  = "result.json"
)

// socketPath is the longest path that a socket may have, less what PostgreSQL puts behind
// the folder.
const socketPath = 107 - len("/s/.s.PGSQL.5432")

// What stands in a command line of PostgreSQL's has nothing in it that a shell would take for
// something else.
var (
	plainPath    = regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9._@+-]*)+$`)
	plainStep    = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	plainCluster = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)
	plainLabel   = regexp.MustCompile(`^[0-9]{8}-[0-9]{6}F(_[0-9]{8}-[0-9]{6}[DI])?$`)
	plainValue   = regexp.MustCompile(`^[A-Za-z0-9_.:+/ -]{1,63}$`)
	plainID      = regexp.MustCompile(`^[A-Za-z0-9._:-]{0,80}$`)
)

func (o Order) check(cluster string) error {
	bad := func(what, want, found string) error {
		return fmt.Errorf("restore beside %s: %s: expected %s, found %q", cluster, what, want, found)
	}
	needs := o.Target.Type != plan.TargetLatest && o.Target.Type != "immediate"
	switch {
	case !plainCluster.MatchString(cluster):
		return bad("cluster", "a cluster's name", cluster)
	case !plainStep.MatchString(o.Step):
		return bad("step", "a step's name", o.Step)
	case !plainPath.MatchString(o.Dir) || filepath.Clean(o.Dir) != o.Dir || strings.Count(o.Dir, "/") < 2:
		return bad("folder", "a path of letters, digits, dots and dashes that is not at the root", o.Dir)
	case len(o.Dir) > socketPath:
		return bad("folder", fmt.Sprintf("at most %d letters, because PostgreSQL has a socket in it", socketPath), o.Dir)
	case !plainPath.MatchString(o.Bin) || filepath.Clean(o.Bin) != o.Bin:
		return bad("programs", "the folder of PostgreSQL's programs", o.Bin)
	case !plainLabel.MatchString(o.Backup):
		return bad("backup", "a label such as 20261126-010000F", o.Backup)
	case settingOf[o.Target.Type] == "" && o.Target.Type != plan.TargetLatest:
		return bad("target", "latest, immediate, time, name, lsn or xid", o.Target.Type)
	case needs != (o.Target.Value != "") || needs && !plainValue.MatchString(o.Target.Value):
		return bad("target", "a value for time, name, lsn and xid alone", o.Target.Value)
	case !plainID.MatchString(o.Heartbeat):
		return bad("heartbeat", "a heartbeat's id", o.Heartbeat)
	}
	return nil
}
