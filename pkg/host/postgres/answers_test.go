package postgres

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// TestAnswers: a PostgreSQL that runs answers, also one that lets nobody in; nobody,
// something else, and one that is stopped do not.
func TestAnswers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		return Answers(ctx, address)
	}
	if err := ask(); err == nil {
		t.Error("a port that takes connections and says nothing passes for PostgreSQL")
	}
	ln.Close()
	if err := ask(); err == nil {
		t.Error("nobody passes for PostgreSQL")
	}
	s := newServer(t)
	_, port, _ := strings.Cut(address, ":")
	s.write("postgresql.auto.conf", strings.ReplaceAll(s.settings(), "listen_addresses = ''", "listen_addresses = '127.0.0.1'")+"port = "+port+"\n")
	s.start()
	if err := ask(); err != nil {
		t.Error(err)
	}
}
