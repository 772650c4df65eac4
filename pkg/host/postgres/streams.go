package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// SayStreams makes or removes an empty file by which restore_command knows that a cluster's
// member gets its WAL from its primary. Its folder is in memory and root's.
func SayStreams(file func(cluster string) string) func(cluster string, yes bool) error {
	return func(cluster string, yes bool) error {
		path := file(cluster)
		if !yes {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("say that %s does not stream: %w", cluster, err)
			}
			return nil
		}
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, nil, 0o644)
		}
		if err != nil {
			return fmt.Errorf("say that %s streams: %w", cluster, err)
		}
		return nil
	}
}
