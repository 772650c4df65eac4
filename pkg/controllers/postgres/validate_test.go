package postgres

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/internal/freeport"
)

// TestPatroniAcceptsGoldens asks the real program. It looks whether ports are
// free, etcd answers and PostgreSQL is installed, so those are replaced by ones
// that are so on this machine; nothing is started but a listener.
func TestPatroniAcceptsGoldens(t *testing.T) {
	program, err := exec.LookPath("patroni")
	if err != nil {
		t.Fatalf("this test asks the real Patroni, which is missing; apt-get install patroni (%v)", err)
	}
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		t.Fatal("this test needs PostgreSQL's programs, which are missing; apt-get install postgresql")
	}
	etcd, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	go func() { // Patroni only connects
		for {
			c, err := etcd.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	files, _ := filepath.Glob("testdata/*/*.yml")
	for _, f := range files {
		t.Run(strings.TrimPrefix(f, "testdata/"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			content := regexp.MustCompile(`- "\S+:2379"`).ReplaceAllString(expand(t, string(b)), fmt.Sprintf("- %q", etcd.Addr()))
			content = regexp.MustCompile(`/usr/lib/postgresql/\d+/bin`).ReplaceAllString(content, bins[0])
			content = regexp.MustCompile(`listen: "(\S+):\d+"`).ReplaceAllStringFunc(content, func(s string) string {
				return s[:strings.LastIndex(s, ":")+1] + strconv.Itoa(freeport.Take(t)) + `"`
			})
			path := filepath.Join(t.TempDir(), "patroni.yml")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(program, "--validate-config", path).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("patroni --validate-config: %v\n%s", err, out)
			}
		})
	}
}
