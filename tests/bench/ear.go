package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/tests/probe/holders"
)

// The ear is a process of its own that hears etcd and the hosts' kernels and does
// nothing else, before everybody else's turn: this one logs in to databases a hundred
// times a second on two cores, and what it hears it heard some time ago.

// earCommand is the argument with which this program is the ear.
const earCommand = "ear"

// hearing is what it is to hear; its first line of input.
type hearing struct {
	Endpoint  string
	Keys      []string
	Addresses []string
	Hosts     []holders.Host
}

// heard is a key that was written, when it was heard of.
type heard struct {
	At         time.Time
	Key, Value string
}

// earReport answers each further line of input with who has the addresses, and the
// end of input with everything.
type earReport struct {
	Holders [][]string
	Heard   []heard
	Lines   []holders.Timeline
}

// runEar is the process.
func runEar(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	var h hearing
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &h) != nil {
		return errors.New("hear: no word of what")
	}
	var observers []*holders.Observer
	for _, a := range h.Addresses {
		ip, err := netip.ParseAddr(a)
		if err != nil {
			return fmt.Errorf("hear: %w", err)
		}
		o, err := holders.Observe(ip, h.Hosts...)
		if err != nil {
			return err
		}
		defer o.Stop()
		observers = append(observers, o)
	}
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{h.Endpoint}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return fmt.Errorf("hear etcd: %w", err)
	}
	defer etcd.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan heard, 1024)
	for _, key := range h.Keys {
		if err := hear(ctx, etcd, key, func(at time.Time, value string) { events <- heard{at, key, value} }); err != nil {
			return err
		}
	}
	answer := json.NewEncoder(out)
	for more := true; more; {
		var r earReport
		for _, o := range observers {
			r.Holders = append(r.Holders, o.Holders())
		}
		if err := answer.Encode(r); err != nil { // the first one says that it hears
			return err
		}
		more = lines.Scan()
	}
	var r earReport
	for _, o := range observers {
		r.Lines = append(r.Lines, o.Stop())
	}
	for len(events) > 0 {
		r.Heard = append(r.Heard, <-events)
	}
	return answer.Encode(r)
}

// hear reports each time a key is written, from now on. etcd tells all who watch a
// key in one go, so this is about when the agents hear it too.
func hear(ctx context.Context, etcd *clientv3.Client, key string, written func(at time.Time, value string)) error {
	w := etcd.Watch(ctx, key, clientv3.WithCreatedNotify())
	if created := <-w; !created.Created {
		return fmt.Errorf("watch %s: %w", key, errors.Join(created.Err(), ctx.Err()))
	}
	go func() {
		for r := range w {
			at := time.Now()
			for _, e := range r.Events {
				if e.Type == clientv3.EventTypePut {
					written(at, string(e.Kv.Value))
				}
			}
		}
	}()
	return nil
}

// ear is the process as its parent has it.
type ear struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// startEar returns when everything is heard.
func startEar(h hearing) (*ear, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// By nice, because a process that runs already can change one of its threads only.
	e := &ear{cmd: exec.Command("nice", "-n", "-15", self, earCommand)}
	e.cmd.Stderr = os.Stderr
	out, err1 := e.cmd.StdoutPipe()
	var err2 error
	e.in, err2 = e.cmd.StdinPipe()
	if err := errors.Join(err1, err2, e.cmd.Start()); err != nil {
		return nil, fmt.Errorf("start to hear: %w", err)
	}
	e.out = json.NewDecoder(out)
	if err := json.NewEncoder(e.in).Encode(h); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	if _, err := e.read(); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	return e, nil
}

func (e *ear) read() (r earReport, err error) {
	if err = e.out.Decode(&r); err != nil {
		err = fmt.Errorf("hear etcd and the kernels: %w", err)
	}
	return r, err
}

// ask says who has the addresses now.
func (e *ear) ask() (earReport, error) {
	if _, err := fmt.Fprintln(e.in); err != nil {
		return earReport{}, fmt.Errorf("ask who has the addresses: %w", err)
	}
	return e.read()
}

// finish ends it and returns everything that was heard.
func (e *ear) finish() (earReport, error) {
	e.in.Close()
	r, err := e.read()
	return r, errors.Join(err, e.cmd.Wait())
}

// stop ends it whatever it has heard; after finish it does nothing.
func (e *ear) stop() error {
	if e.cmd.ProcessState != nil {
		return nil
	}
	e.in.Close()
	return e.cmd.Wait()
}
