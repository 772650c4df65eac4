package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// PackagedFile returns the path of a file of a Debian package, of whatever suite: a benchmark compares with what Debian ships, also with what
// only a later release than the image's has. The package is fetched once, through apt and its signatures, into the cache, and installed nowhere.
func PackagedFile(ctx context.Context, suite, pkg, file string, log *Log) (string, error) {
	folder := filepath.Join(CacheDir(), "packages", suite)
	path := filepath.Join(folder, pkg, file)
	if isFile(path) {
		return path, nil
	}
	if err := installTools(ctx, log); err != nil { // the keyring
		return "", err
	}
	log.Say("fetching %s of Debian %s (once)", pkg, suite)
	if err := unpack(ctx, suite, pkg, folder); err != nil {
		return "", fmt.Errorf("fetch Debian package %s of %s: %w", pkg, suite, err)
	}
	if !isFile(path) {
		return "", fmt.Errorf("fetch Debian package %s of %s: it has no file %s", pkg, suite, file)
	}
	return path, nil
}

// unpack puts a package's files into a folder of its name, whole or not at all. apt gets lists and caches of its own, so that the machine's own
// releases and pins stay what they are.
func unpack(ctx context.Context, suite, pkg, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(folder, ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	sources, err := aptSources(suite)
	if err != nil {
		return err
	}
	at := func(name string) string { return filepath.Join(temporary, name) }
	for _, dir := range []string{at("lists/partial"), at("cache/archives/partial"), at("files")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(at("sources.list"), []byte(sources), 0o644); err != nil {
		return err
	}
	apt := []string{"--chdir=" + temporary, "apt-get", "-qq"}
	for _, option := range []string{
		"Dir::Etc::sourcelist=" + at("sources.list"), "Dir::Etc::sourceparts=-", "Dir::Etc::preferencesparts=-", "Dir::Etc::preferences=-",
		"Dir::State::lists=" + at("lists"), "Dir::Cache=" + at("cache"), "Acquire::Languages=none", "APT::Sandbox::User=root",
	} {
		apt = append(apt, "-o", option)
	}
	for _, verb := range [][]string{{"update"}, {"download", pkg}} {
		if _, err := run(ctx, "", "env", append(apt, verb...)...); err != nil {
			return fmt.Errorf("apt-get %s: %w", strings.Join(verb, " "), err)
		}
	}
	for _, archive := range must(filepath.Glob(at("*.deb"))) {
		if _, err := run(ctx, "", "dpkg-deb", "-x", archive, at("files")); err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(archive), err)
		}
	}
	// What an earlier run left there lacks the file that is asked for.
	if err := os.RemoveAll(filepath.Join(folder, pkg)); err != nil {
		return err
	}
	return os.Rename(at("files"), filepath.Join(folder, pkg))
}
