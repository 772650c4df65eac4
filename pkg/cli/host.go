package cli

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
)

// Host is what init needs of the machine it sets up.
type Host interface {
	// Address is the one by which other hosts reach this one.
	Address() (string, error)
	// Program is the path of this program.
	Program() (string, error)
	// Taken reports whether anything listens on a port.
	Taken(port int) bool
	// Active reports whether a unit runs.
	Active(ctx context.Context, unit string) (bool, error)
	// Write makes a file so, and reports whether it was different.
	Write(path string, content []byte) (changed bool, err error)
	// Install makes a unit file so, and reports whether it was different.
	Install(ctx context.Context, unit string, content []byte) (changed bool, err error)
	// Run enables a unit and starts it; again when it runs and must read new settings.
	Run(ctx context.Context, unit string, again bool) error
	// Asks does GET and reports the answer's status and text.
	Asks(ctx context.Context, url string) (status int, body string, err error)
}

// thisHost is the machine this program runs on.
type thisHost struct{}

// Address is the source address towards the world; no packet is sent.
func (thisHost) Address() (string, error) {
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		c, err := net.Dial("udp", far)
		if err != nil {
			continue
		}
		defer c.Close()
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok && !a.IP.IsLoopback() {
			return a.IP.String(), nil
		}
	}
	// No route to the world: the first address of any interface will do.
	as, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range as {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("this host has no address but loopback")
}

func (thisHost) Program() (string, error) { return os.Executable() }

func (thisHost) Taken(port int) bool {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	l.Close()
	return false
}

func (thisHost) Active(ctx context.Context, unit string) (bool, error) {
	m := systemd.New(systemd.Options{})
	defer m.Close()
	s, err := m.Status(ctx, unit)
	return s.Active(), err
}

func (thisHost) Write(path string, content []byte) (bool, error) {
	d, err := files.Same(path, content, 0o644, "")
	if err != nil || !d.Any() {
		return false, err
	}
	if err := os.MkdirAll(dirOf(path), 0o755); err != nil {
		return false, err
	}
	return true, files.AtomicWrite(path, content, 0o644, "")
}

func dirOf(path string) string {
	dir, _ := cutLast(path, "/")
	return dir
}

func (thisHost) Install(ctx context.Context, unit string, content []byte) (bool, error) {
	m := systemd.New(systemd.Options{})
	defer m.Close()
	return m.InstallTemplate(ctx, unit, content)
}

func (thisHost) Run(ctx context.Context, unit string, again bool) error {
	m := systemd.New(systemd.Options{})
	defer m.Close()
	if err := m.Enable(ctx, unit); err != nil {
		return err
	}
	if again {
		return m.Restart(ctx, unit)
	}
	return m.Start(ctx, unit)
}

func (thisHost) Asks(ctx context.Context, url string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b := make([]byte, 512)
	n, _ := resp.Body.Read(b)
	return resp.StatusCode, string(b[:n]), nil
}
