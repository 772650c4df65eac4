package pgbackrest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestReady(t *testing.T) {
	wal := t.TempDir()
	put := func(name string) {
		if err := os.WriteFile(filepath.Join(wal, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := ready(wal); err != nil || len(names) > 0 {
		t.Fatalf("without data: %v, %v", names, err)
	}
	if err := os.Mkdir(filepath.Join(wal, "archive_status"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00000001000000000000000A", "000000010000000000000009", "00000002.history", "00000001000000000000000B.partial", "00000001000000000000000C", "passwd"} {
		put(name)
		put("archive_status/" + name + ".ready")
	}
	put("archive_status/00000001000000000000000D.ready") // its segment is gone
	if err := archived(wal, "00000001000000000000000C"); err != nil {
		t.Fatal(err)
	}
	names, err := ready(wal)
	want := []string{"000000010000000000000009", "00000001000000000000000A", "00000001000000000000000B.partial", "00000002.history"}
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v; want %v", names, err, want)
	}
	if _, err := os.Stat(filepath.Join(wal, "archive_status/00000001000000000000000C.done")); err != nil {
		t.Error(err)
	}
}
