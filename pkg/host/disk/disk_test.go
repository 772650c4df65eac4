package disk

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestAsDf: df says the same of the same folder.
func TestAsDf(t *testing.T) {
	dir := t.TempDir()
	df := func(columns string) (a, b float64) {
		t.Helper()
		out, err := exec.Command("df", "-B1", "--output="+columns, dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Fields(strings.SplitN(string(out), "\n", 2)[1])
		return number(t, lines[0]), number(t, lines[1])
	}
	used, free := df("used,avail")
	r, err := Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Others write to this disk meanwhile.
	if near := 0.05 * float64(r.Size); diff(float64(r.Free), free) > near || diff(float64(r.Size), used+free) > near {
		t.Errorf("%d bytes free of %d; df says %.0f of %.0f", r.Free, r.Size, free, used+free)
	}
	out, err := exec.Command("stat", "-f", "-c", "%c", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	if most := number(t, strings.TrimSpace(string(out))); diff(float64(r.Most), most) > 0.05*most {
		t.Errorf("%d inodes in all; stat says %.0f", r.Most, most)
	}
	if _, err := Of(dir + "/absent"); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func diff(a, b float64) float64 { return max(a-b, b-a) }
