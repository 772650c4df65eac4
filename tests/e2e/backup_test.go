package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// backedUpWithin is how long a backup that is due may take here, from the moment in which
// it is: a small database, a busy machine.
const backedUpWithin = 3 * time.Minute

// repository is what the agent of a host reports of its cluster's repository.
func repository(ctx context.Context, h *lab.Host) (*observed.Repository, error) {
	key := hosts.Layout.ObservedKey(h.Name, cluster, "backup")
	value, err := hosts.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	r, err := observed.Decode[observed.Report](kv.KV{Key: key, Value: []byte(value)})
	if err != nil || r.Repository == nil {
		return nil, fmt.Errorf("the agent of %s has not looked at a repository: %w", h.Name, errors.Join(err))
	}
	return r.Repository, nil
}

// backedUp waits until a host's repository has a backup that is as wanted.
func backedUp(ctx context.Context, t *testing.T, h *lab.Host, what string, limit time.Duration, wanted func(observed.Backup) bool) (found observed.Backup) {
	t.Helper()
	err := fleet.Until(ctx, limit, what+" in the repository of "+h.Name, func(ctx context.Context) error {
		r, err := repository(ctx, h)
		if err != nil {
			return err
		}
		for _, b := range slices.Backward(r.Backups) {
			if wanted(b) {
				found = b
				return nil
			}
		}
		return fmt.Errorf("it has %d others; %s", len(r.Backups), r.Error)
	})
	if err != nil {
		t.Fatalf("%v; operations: %+v; status:\n%s", err, operationsOf(ctx, t), statusText(ctx))
	}
	return found
}

// after reports whether a backup of a type began after a moment. pgBackRest tells whole seconds.
func after(kind string, moment time.Time) func(observed.Backup) bool {
	return func(b observed.Backup) bool {
		return (kind == "" || b.Type == kind) && !b.Started.Before(moment.Truncate(time.Second))
	}
}

// operationsOf are the cluster's operations, the oldest first.
func operationsOf(ctx context.Context, t *testing.T) []operations.Operation {
	t.Helper()
	var out []operations.Operation
	for _, e := range under(ctx, t, hosts.Layout.ClusterOperations(cluster)) {
		if string(e.Key) == hosts.Layout.TokenKey(cluster) {
			continue
		}
		o, err := observed.Decode[operations.Operation](kvOf(string(e.Key), e.Value))
		ok(t, err)
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b operations.Operation) int { return a.Asked.Compare(b.Asked) })
	return out
}

// ended waits until an operation has ended, and returns it.
func ended(ctx context.Context, t *testing.T, id string, limit time.Duration) (o operations.Operation) {
	t.Helper()
	err := fleet.Until(ctx, limit, "operation "+id+" to end", func(ctx context.Context) error {
		value, err := hosts.Get(ctx, hosts.Layout.OperationKey(cluster, id))
		if err != nil {
			return err
		}
		if o, err = observed.Decode[operations.Operation](kvOf(id, []byte(value))); err == nil && !o.State.Final() {
			err = fmt.Errorf("it is %+v", o)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v; status:\n%s", err, statusText(ctx))
	}
	return o
}

// noBackupGoesOn waits until every backup has ended, so that one that is asked for begins at once.
func noBackupGoesOn(ctx context.Context, t *testing.T) {
	t.Helper()
	ok(t, fleet.Until(ctx, backedUpWithin, "every backup to have ended", func(ctx context.Context) error {
		for _, o := range operationsOf(ctx, t) {
			if !o.State.Final() {
				return fmt.Errorf("%s is %s", o.ID, o.State)
			}
		}
		return nil
	}))
}

// listed fails unless `pgctrl backup list` shows a backup.
func listed(ctx context.Context, t *testing.T, label string) {
	t.Helper()
	out, err := hosts.Pgctrl(ctx, "backup", "list", cluster, "-o", "json")
	ok(t, err)
	if !json.Valid([]byte(out)) || !strings.Contains(out, `"`+label+`"`) {
		t.Errorf("pgctrl backup list lacks %s:\n%s", label, out)
	}
}

// backrest runs pgBackRest on a host, as the user that it belongs to.
func backrest(ctx context.Context, h *lab.Host, args ...string) (string, error) {
	argv := []string{"runuser", "-u", "postgres", "--", "pgbackrest", "--config=" + plan.BackupConfig(cluster), "--stanza=" + cluster, "--log-level-console=warn"}
	return h.Exec(ctx, append(argv, args...)...)
}

// segmentFile is a segment of WAL in the archive.
var segmentFile = regexp.MustCompile(`(?m)([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})-[0-9a-f]{40}(\.[a-z0-9]+)?$`)

// segment is its number on every timeline: 256 of 16 MB in each file number.
func segment(high, low string) uint64 {
	h, _ := strconv.ParseUint(high, 16, 32) // the expression admits nothing else
	l, _ := strconv.ParseUint(low, 16, 32)
	return h<<8 | l
}

// archived are the segments that the repository of a host has, by timeline.
func archived(ctx context.Context, h *lab.Host) (map[string][]uint64, error) {
	out, err := backrest(ctx, h, "repo-ls", "--recurse", "archive/"+cluster)
	if err != nil {
		return nil, err
	}
	return segments(out), nil
}

func segments(listing string) map[string][]uint64 {
	found := map[string][]uint64{}
	for _, m := range segmentFile.FindAllStringSubmatch(listing, -1) {
		found[m[1]] = append(found[m[1]], segment(m[2], m[3]))
	}
	for tl := range found {
		slices.Sort(found[tl])
	}
	return found
}

// holes are what an archive lacks: segments in the middle of a timeline, those that no
// timeline has between the first and the last of all, and those that it has twice.
func holes(found map[string][]uint64) (out []string) {
	all := map[uint64]bool{}
	var first, last uint64
	for tl, ss := range found {
		for i, s := range ss {
			if i > 0 && s != ss[i-1]+1 {
				out = append(out, fmt.Sprintf("timeline %s: %X comes after %X", tl, s, ss[i-1]))
			}
			if len(all) == 0 || s < first {
				first = s
			}
			all[s], last = true, max(last, s)
		}
	}
	for s := first; s < last; s++ {
		if !all[s] {
			out = append(out, fmt.Sprintf("no timeline has %X", s))
		}
	}
	return out
}

// TestHolesAreSeen: a gap in a timeline, one between timelines and a doubled segment.
func TestHolesAreSeen(t *testing.T) {
	const hash = "-0123456789012345678901234567890123456789"
	line := func(tl, s string) string { return "15-1/" + tl + "00000000/" + tl + "00000000" + s + hash + ".zst\n" }
	for _, tc := range []struct {
		listing string
		want    int
	}{
		{line("00000001", "00000001") + line("00000001", "00000002") + line("00000002", "00000003"), 0},
		{line("00000001", "00000001") + line("00000001", "00000002") + line("00000002", "00000002") + line("00000002", "00000003"), 0},
		{line("00000001", "000000FF") + strings.ReplaceAll(line("00000001", "00000000"), "0000000100000000", "0000000100000001"), 0},
		{line("00000001", "00000001") + line("00000001", "00000003"), 2},
		{line("00000001", "00000001") + line("00000002", "00000003"), 1},
		{line("00000001", "00000001") + line("00000001", "00000001"), 1},
	} {
		if got := holes(segments(tc.listing)); len(got) != tc.want {
			t.Errorf("%s: %q, want %d", tc.listing, got, tc.want)
		}
	}
}

// everythingArchived finishes the current segment on the primary, waits until the archive has
// it, and wants the archive without a hole from a segment on; empty: from its first.
func everythingArchived(ctx context.Context, t *testing.T, from string, limit time.Duration) {
	t.Helper()
	h := leading(ctx, t)
	name := sqlOn(ctx, t, h, "create temp table sealed(); select pg_walfile_name(pg_current_wal_insert_lsn())")
	sqlOn(ctx, t, h, "select pg_switch_wal()")
	began := time.Now()
	var found map[string][]uint64
	err := fleet.Until(ctx, limit, name+" in the archive", func(ctx context.Context) (err error) {
		if found, err = archived(ctx, h); err != nil {
			return err
		}
		if ss := found[name[:8]]; len(ss) == 0 || ss[len(ss)-1] < segment(name[8:16], name[16:]) {
			return fmt.Errorf("of its timeline there are %X", ss)
		}
		return nil
	})
	ok(t, err)
	n := 0
	for tl, ss := range found {
		if from != "" {
			ss = slices.DeleteFunc(ss, func(s uint64) bool { return s < segment(from[8:16], from[16:]) })
			found[tl] = ss
		}
		n += len(ss)
	}
	t.Logf("the archive has %d segments of %d timelines, the last %s after it was finished", n, len(found), time.Since(began).Round(time.Millisecond))
	if gaps := holes(found); len(gaps) > 0 {
		t.Errorf("%s; there are %X", strings.Join(gaps, "; "), found)
	}
}
