package patroni

import (
	"os"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestDataDirOfWhatIsRendered: the file that the controller renders says where the data
// are, in the form that is looked for.
func TestDataDirOfWhatIsRendered(t *testing.T) {
	content, err := os.ReadFile("../../controllers/postgres/testdata/small/pg2.yml")
	if err != nil {
		t.Fatal(err)
	}
	u := plan.Unit{Files: []plan.File{{Path: "/etc/patroni/x.crt", Content: "  data_dir: \"/elsewhere\"\n"}, {Path: "/etc/patroni/pg-test.yml", Content: string(content)}}}
	if got := DataDir(u); got != "/var/lib/postgresql/15/pg-test" {
		t.Errorf("got %q", got)
	}
	if got := DataDir(plan.Unit{}); got != "" {
		t.Errorf("of no file: %q", got)
	}
}
