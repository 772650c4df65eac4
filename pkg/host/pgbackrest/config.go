package pgbackrest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// config is the file of a cluster, by section and option.
type config map[string]map[string]string

// readConfig reads the file that the cluster's pgBackRest is run with.
func readConfig(cluster string) (config, error) {
	b, err := os.ReadFile(plan.BackupConfig(cluster))
	if err != nil {
		return nil, fmt.Errorf("read the backup settings of %s: %w", cluster, err)
	}
	return parseConfig(b), nil
}

func parseConfig(b []byte) config {
	c, section := config{}, ""
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = line[1 : len(line)-1]
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if c[section] == nil {
			c[section] = map[string]string{}
		}
		c[section][strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return c
}

// get is an option of a stanza; its own section wins.
func (c config) get(stanza, option, otherwise string) string {
	for _, section := range []string{stanza, "global"} {
		if v := c[section][option]; v != "" {
			return v
		}
	}
	return otherwise
}

// local is the folder of a repository on this host.
func (c config) local(stanza string) (string, bool) {
	if c.get(stanza, "repo1-type", "posix") != "posix" || c.get(stanza, "repo1-host", "") != "" {
		return "", false
	}
	return c.get(stanza, "repo1-path", "/var/lib/pgbackrest"), true
}

// where names the repository, without anything secret.
func (c config) where(stanza string) string {
	if folder, is := c.local(stanza); is {
		return "local:" + folder
	}
	kind, path := c.get(stanza, "repo1-type", "posix"), c.get(stanza, "repo1-path", "/var/lib/pgbackrest")
	switch kind {
	case "s3":
		return fmt.Sprintf("s3:%s/%s%s", c.get(stanza, "repo1-s3-endpoint", ""), c.get(stanza, "repo1-s3-bucket", ""), path)
	case "azure":
		return fmt.Sprintf("azure:%s/%s%s", c.get(stanza, "repo1-azure-account", ""), c.get(stanza, "repo1-azure-container", ""), path)
	case "gcs":
		return fmt.Sprintf("gcs:%s%s", c.get(stanza, "repo1-gcs-bucket", ""), path)
	}
	return fmt.Sprintf("%s:%s%s", kind, c.get(stanza, "repo1-host", ""), path)
}

// locks is the folder in which pgBackRest says what it is at.
func (c config) locks(stanza string) string { return c.get(stanza, "lock-path", "/tmp/pgbackrest") }

// spool is where its asynchronous archiving leaves word of what went wrong.
func (c config) spool(stanza string) string {
	return c.get(stanza, "spool-path", "/var/spool/pgbackrest") + "/archive/" + stanza + "/out"
}
