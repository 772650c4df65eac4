package backup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestProgramTakesTheFiles: the real pgBackRest reads every golden file without a word about
// an option that it does not know, does not want there or can't read, and has what it says.
// It says what it has when a command begins; that it then finds no PostgreSQL and no
// repository here is as it should be.
func TestProgramTakesTheFiles(t *testing.T) {
	program, err := exec.LookPath("pgbackrest")
	if err != nil {
		t.Fatal("this test needs pgbackrest, which is missing; apt-get install pgbackrest")
	}
	files, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		content, err := plan.Expand(string(text), plan.Values{Secret: func(string) ([]byte, bool) { return []byte("Hu/sh+ABC=_-1"), true }})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for _, line := range strings.Split(content, "\n") { // nothing of the host's, and nobody in the network
			name, value, _ := strings.Cut(line, "=")
			switch name {
			case "repo1-path", "spool-path", "pg1-path", "pg1-socket-path":
				content = strings.ReplaceAll(content, line, name+"="+dir+value)
			case "repo1-s3-endpoint":
				content = strings.ReplaceAll(content, line, name+"=localhost:1")
			case "repo1-storage-ca-file":
				content = strings.ReplaceAll(content, line, name+"="+filepath.Join(dir, "ca.crt"))
			}
		}
		config := filepath.Join(dir, "pg-test.conf")
		if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		run := func(args ...string) string {
			args = append([]string{"--config=" + config, "--stanza=pg-test", "--lock-path=" + dir + "/lock", "--log-level-file=off", "--log-level-console=info"}, args...)
			out, err := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...).CombinedOutput()
			if err == nil {
				t.Errorf("%s: %v succeeded:\n%s", file, args, out)
			}
			if strings.Contains(string(out), "WARN") || !strings.Contains(string(out), "command begin") {
				t.Errorf("%s: %v:\n%s", file, args, out)
			}
			return string(out)
		}
		said := run("--io-timeout=0.1", "backup") +
			run("--no-archive-async", "archive-push", filepath.Join(dir, "000000010000000000000001")) +
			run("--no-archive-async", "archive-get", "000000010000000000000001", filepath.Join(dir, "got"))
		// What the file says has arrived, in every section.
		for line := range strings.Lines(content) {
			name, value, is := strings.Cut(strings.TrimSpace(line), "=")
			switch {
			case !is || strings.HasPrefix(line, "#"):
			case name == "archive-async", name == "spool-path", strings.HasPrefix(name, "log-level-"): // said otherwise above
			case name == "repo1-cipher-type" && value == "none", name == "repo1-retention-full-type" && value == "count": // left out, or at its default
			case value == "y":
				if name != "repo1-storage-verify-tls" && !strings.Contains(said, " --"+name) {
					t.Errorf("%s: %s did not arrive:\n%s", file, line, said)
				}
			case value == "n":
				if !strings.Contains(said, " --no-"+name) {
					t.Errorf("%s: %s did not arrive:\n%s", file, line, said)
				}
			case !strings.Contains(said, " --"+name+"="+value) && !strings.Contains(said, " --"+name+"=<redacted>"):
				t.Errorf("%s: %s did not arrive:\n%s", file, line, said)
			}
		}
	}
}
