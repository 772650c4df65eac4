package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// askTimeout bounds one conversation over a socket. A healthy HAProxy answers in
// less than a millisecond.
const askTimeout = time.Second

// maxLine keeps a batch below HAProxy's command buffer (tune.bufsize, 16 KiB by
// default); a longer line is cut off without a word.
const maxLine = 8 << 10

// ErrReply is returned when HAProxy answered a command with something else than
// success; the text is its own.
var ErrReply = errors.New("haproxy refused a command")

// ask writes one line to a socket and reads the answer to its end.
func ask(ctx context.Context, socket, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return "", fmt.Errorf("ask haproxy: %w", err)
	}
	defer conn.Close()
	// A deadline alone does not notice a caller that gives up early.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", fmt.Errorf("ask haproxy at %s: %w", socket, err)
	}
	out, err := io.ReadAll(conn)
	if err != nil {
		return "", fmt.Errorf("ask haproxy at %s: %w", socket, err)
	}
	return string(out), nil
}

// batch sends commands in as few round trips as their length allows (one, below
// about 150 servers) and returns the answer to each.
func batch(ctx context.Context, socket string, commands ...string) ([]string, error) {
	var out []string
	for len(commands) > 0 {
		n, size := 0, 0
		for n < len(commands) && (n == 0 || size+len(commands[n]) < maxLine) {
			size += len(commands[n]) + 1
			n++
		}
		text, err := ask(ctx, socket, strings.Join(commands[:n], ";"))
		if err != nil {
			return out, err
		}
		answers := replies(text)
		if len(answers) < n {
			return out, fmt.Errorf("ask haproxy at %s: %d answers to %d commands", socket, len(answers), n)
		}
		out = append(out, answers[:n]...)
		commands = commands[n:]
	}
	return out, nil
}

// replies splits what came back for a batch: each answer ends with an empty line,
// and the answer to a command that succeeded silently is just that line.
func replies(text string) []string {
	var out []string
	begin, at := 0, 0
	for line := range strings.Lines(text) {
		at += len(line)
		if strings.TrimRight(line, "\r\n") == "" {
			out = append(out, strings.TrimRight(text[begin:at], "\r\n"))
			begin = at
		}
	}
	if begin < len(text) {
		out = append(out, strings.TrimRight(text[begin:], "\r\n"))
	}
	return out
}

// askMaster sends commands to the master process, each to where its prefix says
// ("@!PID" is a worker). Unlike a worker's socket the master's stays open after the
// answer (2.6), hence quit.
func askMaster(ctx context.Context, socket string, commands ...string) (string, error) {
	return ask(ctx, socket, strings.Join(commands, ";")+";quit")
}
