package lab

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// source is one Debian archive of the machine: where, which suite, which components.
type source struct {
	uri, suite string
	components []string
}

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// aptSources are the lines mmdebstrap builds from: the machine's own Debian mirrors, with the wanted suite in place of the machine's, so
// that a lab works wherever apt works. Archives of others are left out: the image is Debian and nothing else.
func aptSources(suite string) (string, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("read the machine's release: %w", err)
	}
	machine := suite
	for line := range strings.Lines(string(release)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			machine = strings.Trim(name, `"`)
		}
	}
	var found []source
	files := append([]string{"/etc/apt/sources.list"}, must(filepath.Glob("/etc/apt/sources.list.d/*"))...)
	for _, file := range files {
		content, err := os.ReadFile(file)
		switch {
		case err != nil: // a missing or unreadable file names no mirror
		case strings.HasSuffix(file, ".sources"):
			found = append(found, parseStanzas(string(content))...)
		case strings.HasSuffix(file, ".list"):
			found = append(found, parseLines(string(content))...)
		}
	}
	return renderSources(found, machine, suite), nil
}

// renderSources keeps the Debian archives of the machine's release and writes them for the wanted suite; the public mirror if there is none.
func renderSources(found []source, machine, suite string) string {
	var lines []string
	add := func(uri, suite string, components []string) {
		line := fmt.Sprintf("deb [signed-by=%s] %s %s %s", keyring, uri, suite, strings.Join(components, " "))
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	main := false
	for _, s := range found {
		suffix, ours := strings.CutPrefix(s.suite, machine)
		if !ours || !slices.Contains([]string{"", "-updates", "-security"}, suffix) || !slices.Contains(s.components, "main") {
			continue
		}
		u, err := url.Parse(s.uri)
		if err != nil || !strings.HasPrefix(path.Base(u.Path), "debian") {
			continue
		}
		main = main || suffix == ""
		add(s.uri, suite+suffix, []string{"main"})
	}
	if !main {
		add("http://deb.debian.org/debian", suite, []string{"main"})
	}
	return strings.Join(lines, "\n") + "\n"
}

// parseLines reads the one-line format: deb [options] uri suite component...
func parseLines(content string) (found []source) {
	for line := range strings.Lines(content) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		if f := strings.Fields(rest); len(f) >= 3 {
			found = append(found, source{uri: f[0], suite: f[1], components: f[2:]})
		}
	}
	return found
}

// parseStanzas reads the deb822 format of *.sources files.
func parseStanzas(content string) (found []source) {
	fields, last := map[string]string{}, ""
	flush := func() {
		if slices.Contains(strings.Fields(fields["types"]), "deb") && strings.TrimSpace(fields["enabled"]) != "no" {
			for _, uri := range strings.Fields(fields["uris"]) {
				for _, suite := range strings.Fields(fields["suites"]) {
					found = append(found, source{uri: uri, suite: suite, components: strings.Fields(fields["components"])})
				}
			}
		}
		fields, last = map[string]string{}, ""
	}
	scanner := bufio.NewScanner(strings.NewReader(content))
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			fields[last] += " " + strings.TrimSpace(line)
		default:
			name, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(name))
			fields[last] = value
		}
	}
	flush()
	return found
}

// sourceHosts are the hosts named by rendered sources, for a progress line.
func sourceHosts(sources string) (hosts []string) {
	for _, s := range parseLines(sources) {
		if u, err := url.Parse(s.uri); err == nil && !slices.Contains(hosts, u.Host) {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}
