// Package cli is the command line: one file a command, over what the other
// packages decide. It reads documents and live keys, writes documents, waits for
// hosts to become what they say and tells people what happened.
//
// Every command goes through Run, which takes everything it needs as arguments
// (streams, environment, how to reach etcd, how to change this host), so that
// the behaviour scripts under testdata run whole commands in process.
//
// The first argument of a command is the cluster; a document is named by the
// tail of its key ("postgres", "members/pg-test-1"), as under etcdctl.
package cli

//go:generate go run ./internal/gen ../../docs/commands.md ../../docs/graph.md
