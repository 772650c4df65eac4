package pgbackrest

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestAFullBackupStaysListed: a week of hourly backups pushes no full one out of the list;
// "the first backup" would be due again every MaxBackups hours.
func TestAFullBackupStaysListed(t *testing.T) {
	s := map[string]any{"name": "c", "db": []any{map[string]any{"id": 1, "repo-key": 1, "system-id": json.Number("7")}}}
	var all []any
	for i := range 3 * observed.MaxBackups {
		kind := "incr"
		if i == 0 {
			kind = "full"
		}
		at := map[string]any{"start": 1000 + i*3600, "stop": 1001 + i*3600}
		all = append(all, map[string]any{"database": map[string]any{"id": 1, "repo-key": 1}, "label": fmt.Sprintf("%04d", i), "type": kind, "timestamp": at})
	}
	s["backup"] = all
	out, _ := json.Marshal([]any{s})
	r, err := parseInfo(out, "c", "7")
	if err != nil || len(r.Backups) != observed.MaxBackups {
		t.Fatalf("%d backups, %v", len(r.Backups), err)
	}
	if first, last := r.Backups[0], r.Backups[len(r.Backups)-1]; first.Type != "full" || last.Label != fmt.Sprintf("%04d", 3*observed.MaxBackups-1) {
		t.Errorf("the oldest is %+v, the newest %+v", first, last)
	}
}
