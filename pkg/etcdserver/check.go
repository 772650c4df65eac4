package etcdserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// checkDatabase looks at what etcd would end the process over: it opens its database
// in a goroutine of its own, and a panic there can't be caught. Only the beginning
// is read, and that the file is as long as it says.
func checkDatabase(dataDir string) error {
	path := filepath.Join(dataDir, "member", "snap", "db")
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // etcd says what follows from that
	}
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrBroken, dataDir, err)
	}
	// With a database and no log etcd begins a new cluster over old data, and takes
	// its first writes for ones that the database has already.
	if logs, err := filepath.Glob(filepath.Join(dataDir, "member", "wal", "*.wal")); err != nil || len(logs) == 0 {
		return fmt.Errorf("%w %s: it has a database and no log", ErrBroken, dataDir)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("open %s: %w", path, ErrRunning)
	}
	if err != nil {
		return fmt.Errorf("%w %s: open database: %w", ErrBroken, dataDir, err)
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		if tx.Size() > st.Size() {
			return fmt.Errorf("%w %s: the database has %d bytes and says that it has %d", ErrBroken, dataDir, st.Size(), tx.Size())
		}
		return nil
	})
}
