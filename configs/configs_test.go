package configs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The units pass systemd's own check. The programs they name need not be here.
func TestUnitsVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is not installed: apt-get install systemd")
	}
	dir := t.TempDir()
	entries, err := files.ReadDir("systemd")
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range entries {
		b, err := Unit(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		for line := range bytes.Lines(b) { // programs that are not on this machine
			for _, key := range []string{"ExecStart=", "ExecStartPre=", "ExecReload=", "ExecStopPost="} {
				if bytes.HasPrefix(line, []byte(key)) {
					line = []byte(key + "/bin/true\n")
				}
			}
			out = append(out, line...)
		}
		name := strings.Replace(e.Name(), "@.", "@pg-test.", 1)
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, out, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	// Its exit code is 0 whatever it says; words about our files are faults.
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no", "--recursive-errors=no"}, paths...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, dir) || strings.Contains(line, "pg-test") || strings.Contains(line, "pgctrl") || strings.Contains(line, "pgagent") {
			t.Errorf("%s", strings.TrimSpace(line))
		}
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAgentTemplates(t *testing.T) {
	ts, err := AgentTemplates("/usr/local/bin/pgagent")
	if err != nil {
		t.Fatal(err)
	}
	h := string(ts["haproxy@.service"].Content)
	if strings.Count(h, "=-/usr/local/bin/pgagent haproxy-state %i\n") != 2 || strings.Contains(h, "=-/usr/bin/pgagent") {
		t.Errorf("the agent's path was not put in:\n%s", h)
	}
	if !ts["patroni@.service"].Vendor || ts["haproxy@.service"].Vendor {
		t.Error("only patroni's template gives way to the distribution's")
	}
	if _, err := Unit("no-such.service"); err == nil {
		t.Error("a unit that doesn't exist")
	}
}
