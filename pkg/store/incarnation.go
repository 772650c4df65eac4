package store

import (
	"crypto/rand"
	"encoding/hex"
)

// NewIncarnation names a store at random: one that was restored or made anew must
// not be taken for the one before.
func NewIncarnation() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // it never fails; it ends the program instead
	return hex.EncodeToString(b)
}
