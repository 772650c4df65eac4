package postgres

import (
	"context"
	"fmt"
	"io"
	"net"
)

// sslRequest asks a PostgreSQL whether it would talk in TLS; every server answers it
// with one letter, before it wants to know who asks.
var sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}

// Answers asks the PostgreSQL at an address without logging in. nil says that one is
// there, and nothing about what it would do.
func Answers(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("ask PostgreSQL at %s: %w", address, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // on a closed connection the next line fails
	}
	var answer [1]byte
	if _, err = conn.Write(sslRequest); err == nil {
		_, err = io.ReadFull(conn, answer[:])
	}
	switch {
	case err != nil:
		return fmt.Errorf("ask PostgreSQL at %s: %w", address, err)
	case answer[0] != 'S' && answer[0] != 'N':
		return fmt.Errorf("ask PostgreSQL at %s: it answers %q, which no PostgreSQL does", address, answer)
	}
	return nil
}
