package plan

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Formats in which a secret may be quoted.
const (
	FormatYAML     = "yaml"
	FormatINI      = "ini"
	FormatPgpass   = "pgpass"
	FormatUserlist = "userlist"
	// FormatVerifier is for PgBouncer's list of users too: what a password is checked
	// against, and not the password.
	FormatVerifier = "verifier"
	// FormatPEM is for certificates and their keys, which have lines and are their own
	// file: nothing is quoted.
	FormatPEM = "pem"
)

var placeholder = regexp.MustCompile(`\{\{[^{}]*\}\}`)
var secretRef = regexp.MustCompile(`^\{\{secret ([a-z][a-z0-9_./-]*) as (yaml|ini|pgpass|userlist|verifier|pem)\}\}$`)

// SecretRef is the placeholder that stands for a secret in file content.
func SecretRef(name, format string) string { return "{{secret " + name + " as " + format + "}}" }

// Values is what placeholders are replaced with.
type Values struct {
	// Secret returns a secret's bytes.
	Secret func(name string) ([]byte, bool)
	// Verifier makes the SCRAM verifier of a secret; the same for the same one.
	Verifier func(name string, secret []byte) (string, error)
	// PrimaryName and PrimaryAddress are the confirmed primary's.
	PrimaryName, PrimaryAddress string
}

// Expand replaces the three placeholders a file may hold. Anything else between
// double braces is an error, so that a typing mistake in a template can't reach a
// host; so is a secret that does not exist.
func Expand(content string, v Values) (string, error) {
	var firstErr error
	out := placeholder.ReplaceAllStringFunc(content, func(ph string) string {
		s, err := expand(ph, v)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		return s
	})
	return out, firstErr
}

func expand(ph string, v Values) (string, error) {
	switch ph {
	case "{{primary.name}}":
		return v.PrimaryName, nil
	case "{{primary.address}}":
		return v.PrimaryAddress, nil
	}
	m := secretRef.FindStringSubmatch(ph)
	if m == nil {
		return "", fmt.Errorf("placeholder %s is not one of {{secret NAME as yaml|ini|pgpass|userlist|verifier|pem}}, {{primary.address}}, {{primary.name}}", ph)
	}
	secret, ok := v.Secret(m[1])
	if !ok {
		return "", fmt.Errorf("secret %s does not exist", m[1])
	}
	if m[2] == FormatVerifier {
		if v.Verifier == nil {
			return "", fmt.Errorf("secret %s: no verifier can be made here", m[1])
		}
		text, err := v.Verifier(m[1], secret)
		if err != nil {
			return "", err
		}
		return quote(text, FormatUserlist)
	}
	if m[2] == FormatPEM {
		if !isPEM(secret) {
			return "", fmt.Errorf("secret %s is not PEM and can't be written as such", m[1])
		}
		return string(secret), nil
	}
	return quote(string(secret), m[2])
}

// isPEM reports whether a text is PEM from its first to its last letter, so that nothing
// else can come into a file by it.
func isPEM(text []byte) bool {
	found := false
	for {
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			return found
		}
		if !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
			return false
		}
		block, rest := pem.Decode(text)
		if block == nil {
			return false
		}
		text, found = rest, true
	}
}

// quote encodes a secret for the file it goes into, so that no character of it
// can end the value it stands in.
func quote(s, format string) (string, error) {
	if strings.ContainsAny(s, "\x00\r\n") {
		return "", fmt.Errorf("a secret with a line break or NUL can't be written as %s", format)
	}
	switch format {
	case FormatYAML:
		return "'" + strings.ReplaceAll(s, "'", "''") + "'", nil
	case FormatUserlist:
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`, nil
	case FormatPgpass:
		return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(s), nil
	default:
		if strings.ContainsAny(s, `'" #;%`) {
			return "", fmt.Errorf("a secret with %s can't be written as ini", strconv.Quote(`'" #;%`))
		}
		return s, nil
	}
}

// SecretNames lists the secrets that the resources' files refer to, in order.
func SecretNames(rs Resources) []string {
	seen := map[string]bool{}
	for _, r := range rs {
		var contents []string
		switch r := r.(type) {
		case Unit:
			for _, f := range r.Files {
				contents = append(contents, f.Content)
			}
		case Watched:
			contents = append(contents, r.Content)
		}
		for _, content := range contents {
			for _, ph := range placeholder.FindAllString(content, -1) {
				if m := secretRef.FindStringSubmatch(ph); m != nil {
					seen[m[1]] = true
				}
			}
		}
	}
	out := make([]string, 0, len(seen))
	for n := range seen {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}
