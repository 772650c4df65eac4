// Package watch tells when files may have changed, by inotify.
//
// What is watched are the folders, since files are replaced by renaming others over
// them, and a watch on a file would stay with the old one. An event says only that
// it is worth to look: one of our own writes makes one too.
//
// A Watcher never says less than what happened: when the kernel dropped events
// every watch is told, and a folder that can't be watched is told as changed every Blind
// until it can. In one that is not there nothing changes before it is, which is looked for.
package watch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Blind is how often a watch is told "changed" while nobody can tell: what the
// agent compared by before there were events.
const Blind = 5 * time.Second

// mask is what can make a file's content, mode or owner another one. IN_MODIFY is
// there for writers that keep the file open. The last three are about the folder.
const mask = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_CREATE | unix.IN_DELETE |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// gone are the events after which a folder's watch is worth nothing.
const gone = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_IGNORED | unix.IN_UNMOUNT

// Watcher watches files for as many as ask. One goroutine reads all events.
type Watcher struct {
	log *zap.Logger

	mu      sync.Mutex
	f       *os.File // the inotify instance; nil when there is none
	folders map[string]*folder
	byWD    map[int]*folder
	closed  bool
	done    chan struct{}
	wake    chan struct{}
}

// folder is one watched folder and who asked about which of its files.
type folder struct {
	path string
	wd   int // -1: not watched at present
	subs []*sub
	gone bool // there is no such folder
	said bool // that it can't be watched
}

// sub is one call of Watch; names are base names.
type sub struct {
	names   map[string]bool
	changed func()
}

// New starts a watcher. Without inotify (too many instances) it is blind, and says so.
func New(log *zap.Logger) *Watcher {
	if log == nil {
		log = zap.NewNop()
	}
	w := &Watcher{log: log, folders: map[string]*folder{}, byWD: map[int]*folder{}, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		log.Error("files are not watched; they are compared every few seconds", zap.Error(err))
	} else {
		w.f = os.NewFile(uintptr(fd), "inotify")
	}
	var wg sync.WaitGroup
	if w.f != nil {
		wg.Go(w.read)
	}
	wg.Go(w.look)
	go func() { wg.Wait(); close(w.done) }()
	return w
}

// Close ends the watcher and every Watch.
func (w *Watcher) Close() {
	w.mu.Lock()
	was := w.closed
	w.closed = true
	if !was && w.f != nil {
		_ = w.f.Close() // ends the read
	}
	w.mu.Unlock()
	w.poke()
	<-w.done
}

// Watch calls changed when one of the files may have become another, until ctx
// ends. changed must not block. Calls may come without a change.
func (w *Watcher) Watch(ctx context.Context, paths []string, changed func()) {
	for dir, names := range byFolder(paths) {
		s := &sub{names: names, changed: changed}
		w.add(dir, s)
		defer w.remove(dir, s)
	}
	select {
	case <-ctx.Done():
	case <-w.done:
	}
}

func byFolder(paths []string) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, p := range paths {
		dir := filepath.Dir(p)
		if out[dir] == nil {
			out[dir] = map[string]bool{}
		}
		out[dir][filepath.Base(p)] = true
	}
	return out
}

func (w *Watcher) add(dir string, s *sub) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.folders[dir]
	if d == nil {
		d = &folder{path: dir, wd: -1}
		w.folders[dir] = d
	}
	d.subs = append(d.subs, s)
	if w.watch(d); d.wd < 0 {
		w.poke()
	}
}

func (w *Watcher) remove(dir string, s *sub) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.folders[dir]
	d.subs = slices.DeleteFunc(d.subs, func(o *sub) bool { return o == s })
	if len(d.subs) > 0 {
		return
	}
	delete(w.folders, dir)
	if d.wd >= 0 {
		delete(w.byWD, d.wd)
		w.control(func(fd int) error { _, err := unix.InotifyRmWatch(fd, uint32(d.wd)); return err })
	}
}

// watch begins to watch a folder, if that is possible. The caller holds mu.
func (w *Watcher) watch(d *folder) {
	if d.wd >= 0 || w.f == nil || w.closed {
		return
	}
	err := w.control(func(fd int) error {
		wd, err := unix.InotifyAddWatch(fd, d.path, mask)
		if err == nil {
			d.wd = wd
		}
		return err
	})
	d.gone = errors.Is(err, unix.ENOENT)
	switch {
	case err == nil:
		d.said = false
		// Two names of one folder share a watch, and one of them would hear nothing.
		if other := w.byWD[d.wd]; other != nil && other != d {
			d.wd = -1
			return
		}
		w.byWD[d.wd] = d
	case !d.gone && !d.said:
		d.said = true
		w.log.Warn("folder not watched; its files are compared every few seconds", zap.String("folder", d.path), zap.Error(err))
	}
}

// control runs a call on the inotify descriptor without taking it from the poller.
func (w *Watcher) control(do func(fd int) error) error {
	if w.f == nil {
		return os.ErrClosed
	}
	rc, err := w.f.SyscallConn()
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	var inner error
	if err := rc.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	return inner
}

// read takes events until the instance is closed.
func (w *Watcher) read() {
	buf := make([]byte, 16<<10)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			w.mu.Lock()
			closed := w.closed
			w.mu.Unlock()
			if !closed {
				w.log.Error("inotify ended; files are compared every few seconds", zap.Error(err))
				w.mu.Lock()
				for _, d := range w.folders {
					w.forget(d)
				}
				w.f = nil
				w.mu.Unlock()
				w.poke()
			}
			return
		}
		for _, tell := range w.take(buf[:n]) {
			tell()
		}
	}
}

// take reads one buffer of events and returns whom to tell, each once.
func (w *Watcher) take(b []byte) []func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := map[*sub]bool{}
	var out []func()
	tell := func(s *sub) {
		if !told[s] {
			told[s] = true
			out = append(out, s.changed)
		}
	}
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int(int32(binary.NativeEndian.Uint32(b)))
		bits := binary.NativeEndian.Uint32(b[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:min(size, len(b))]), "\x00")
		b = b[min(size, len(b)):]
		if bits&unix.IN_Q_OVERFLOW != 0 {
			for _, d := range w.folders {
				for _, s := range d.subs {
					tell(s)
				}
			}
			continue
		}
		d := w.byWD[wd]
		if d == nil {
			continue // of a watch that was ended meanwhile
		}
		for _, s := range d.subs {
			if name == "" || s.names[name] {
				tell(s)
			}
		}
		if bits&gone != 0 {
			w.forget(d)
			w.poke()
		}
	}
	return out
}

// forget notes that a folder is not watched any more. The caller holds mu.
func (w *Watcher) forget(d *folder) {
	if d.wd < 0 {
		return
	}
	wd := d.wd
	delete(w.byWD, wd)
	d.wd = -1
	// A folder that was moved away still has its watch.
	_ = w.control(func(fd int) error { _, err := unix.InotifyRmWatch(fd, uint32(wd)); return err })
}

func (w *Watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
