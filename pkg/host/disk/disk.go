// Package disk says how much room file systems have.
package disk

import (
	"fmt"
	"syscall"
)

// Room is what a file system has left, and has in all, for those who are not root.
type Room struct {
	Free, Size   uint64 // bytes
	Inodes, Most uint64 // inodes free, and in all; both 0 where there is no such limit
}

// Of looks at the file system that a path is on.
func Of(path string) (Room, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return Room{}, fmt.Errorf("look for room on %s: %w", path, err)
	}
	block := uint64(s.Frsize)
	// What is kept for root is of no use to PostgreSQL, so it is not in the size either:
	// Free reaches 0 when writes fail, and the share that is left is that of the same whole.
	kept := s.Bfree - s.Bavail
	return Room{Free: s.Bavail * block, Size: (s.Blocks - kept) * block, Inodes: s.Ffree, Most: s.Files}, nil
}
