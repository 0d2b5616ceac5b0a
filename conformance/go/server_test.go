// Package conformance drives a server with Go's own etcd client, as its users' programs do.
//
// The server's binary is named by the environment variable CETERA; any server with etcd's flags will do.
package conformance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// patience bounds every wait; a wait that ends by it is a failure.
const patience = 30 * time.Second

// server is one process over one data directory.
type server struct {
	t       *testing.T
	name    string
	dir     string
	client  string
	peer    string
	cluster string
	extra   []string

	cmd      *exec.Cmd
	ready    chan struct{}
	finished chan struct{}
	last     []string
}

// dealt holds the ports given out so far: a server that is down keeps its own.
var dealt sync.Map

// freeAddress finds a port below those the system deals out: no outgoing connection takes it while a server is down.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		listener.Close()
		if _, taken := dealt.LoadOrStore(address, true); !taken {
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// place is a server that does not run yet, on a fresh data directory. It is stopped when the test ends.
func place(t *testing.T, name string, extra ...string) *server {
	t.Helper()
	s := &server{t: t, name: name, dir: t.TempDir(), client: freeAddress(t), peer: freeAddress(t), extra: extra}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.stop(syscall.SIGKILL)
		}
	})
	return s
}

// newServer starts a server on a fresh data directory and stops it when the test ends.
func newServer(t *testing.T, extra ...string) *server {
	t.Helper()
	t.Parallel()
	s := place(t, "one", extra...)
	s.cluster = s.named()
	s.start()
	return s
}

// named is the server as --initial-cluster names it.
func (s *server) named() string { return s.name + "=http://" + s.peer }

// start runs the process and waits for the line that says it serves.
func (s *server) start() {
	s.t.Helper()
	s.launch()
	s.await()
}

// launch runs the process.
func (s *server) launch() {
	s.t.Helper()
	binary := os.Getenv("CETERA")
	if binary == "" {
		s.t.Fatal("CETERA must name the server's binary")
	}
	args := append([]string{
		"--name", s.name, "--data-dir", filepath.Join(s.dir, "data"),
		"--listen-client-urls", "http://" + s.client, "--advertise-client-urls", "http://" + s.client,
		"--listen-peer-urls", "http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer,
		"--initial-cluster", s.cluster,
	}, s.extra...)
	s.cmd = exec.Command(binary, args...)
	s.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		// Small files, so that a start writes little and files roll in a short run; etcd knows nothing of them.
		"CETERA_TEST_WAL_SEGMENT_BYTES=1048576",
		"CETERA_TEST_LOG_SEGMENT_BYTES=1048576",
	}
	output, err := s.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ready, s.finished, s.last = make(chan struct{}), make(chan struct{}), nil
	go s.read(output, s.cmd, s.ready, s.finished)
}

// read takes in what the process prints, until it ends.
func (s *server) read(output io.Reader, cmd *exec.Cmd, ready, finished chan struct{}) {
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	serving := false
	for lines.Scan() {
		if serving {
			continue
		}
		s.last = append(s.last, lines.Text())
		if strings.Contains(lines.Text(), "ready to serve client requests") {
			serving = true
			close(ready)
		}
	}
	_, _ = io.Copy(io.Discard, output)
	_ = cmd.Wait()
	close(finished)
}

// await returns when it serves.
func (s *server) await() {
	s.t.Helper()
	select {
	case <-s.ready:
	case <-s.finished:
		s.t.Fatalf("the server ended before it served:\n%s", strings.Join(s.last, "\n"))
	case <-time.After(patience):
		s.t.Fatal("the server did not say that it serves")
	}
}

// stop ends the process by a signal and waits for its end.
func (s *server) stop(signal syscall.Signal) {
	s.t.Helper()
	select {
	case <-s.finished:
		return
	default:
	}
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.finished:
	case <-time.After(patience):
		s.t.Fatal("the server did not end")
	}
}

// restart ends the process by a signal and starts it again on its data.
func (s *server) restart(signal syscall.Signal) {
	s.t.Helper()
	s.stop(signal)
	s.start()
}

func (s *server) config() clientv3.Config { return config(s.client) }

func config(endpoints ...string) clientv3.Config {
	return clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()}
}

// dial returns a client that is closed when the test ends.
func (s *server) dial() *clientv3.Client {
	s.t.Helper()
	return dial(s.t, s.config())
}

func dial(t *testing.T, config clientv3.Config) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// must fails the test on an error and passes the value on.
func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func want[T comparable](t *testing.T, what string, got, wanted T) {
	t.Helper()
	if got != wanted {
		t.Fatalf("%s: got %v, want %v", what, got, wanted)
	}
}

// collect reads n events of a watch.
func collect(t *testing.T, watch clientv3.WatchChan, n int) []*clientv3.Event {
	t.Helper()
	var events []*clientv3.Event
	deadline := time.After(patience)
	for len(events) < n {
		select {
		case response, open := <-watch:
			if !open {
				t.Fatalf("the watch ended after %d of %d events", len(events), n)
			}
			if err := response.Err(); err != nil {
				t.Fatal(err)
			}
			events = append(events, response.Events...)
		case <-deadline:
			t.Fatalf("only %d of %d events came", len(events), n)
		}
	}
	return events
}

func key(i int) string { return fmt.Sprintf("/registry/objects/%06d", i) }
