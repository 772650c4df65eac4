package cli

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestCtrlCIsForPsql: it stops a query there, and what ends our own waiting must not
// take psql away with all that somebody has open in it.
func TestCtrlCIsForPsql(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "psql"), []byte("#!/bin/sh\necho up\nread word\necho got $word\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	in, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	hear, out := io.Pipe()
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		err := newApp(Streams{In: in, Out: out, Err: io.Discard}, Deps{}.withDefaults()).runPsql(ctx, nil, nil)
		out.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(hear)
	lines.Scan()
	interrupt()
	if _, err := say.WriteString("this\n"); err != nil {
		t.Fatal(err)
	}
	if lines.Scan(); lines.Text() != "got this" {
		t.Errorf("psql said %q", lines.Text())
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}
