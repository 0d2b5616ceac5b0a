package conformance

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// cluster is three members, each a process of its own.
type cluster struct {
	t       *testing.T
	servers []*server
}

// newCluster starts three members on fresh data directories and stops them when the test ends.
func newCluster(t *testing.T, extra ...string) *cluster {
	t.Helper()
	t.Parallel()
	c := &cluster{t: t}
	var named []string
	for i := range 3 {
		s := place(t, fmt.Sprintf("m%d", i), extra...)
		c.servers = append(c.servers, s)
		named = append(named, s.named())
	}
	for _, s := range c.servers {
		s.cluster = strings.Join(named, ",")
		s.launch()
	}
	for _, s := range c.servers {
		s.await()
	}
	return c
}

func (c *cluster) endpoints() []string {
	var endpoints []string
	for _, s := range c.servers {
		endpoints = append(endpoints, s.client)
	}
	return endpoints
}

// dial returns a client of all members.
func (c *cluster) dial() *clientv3.Client {
	c.t.Helper()
	return dial(c.t, config(c.endpoints()...))
}

// dialEach returns a client of each member.
func (c *cluster) dialEach() []*clientv3.Client {
	c.t.Helper()
	var clients []*clientv3.Client
	for _, s := range c.servers {
		clients = append(clients, s.dial())
	}
	return clients
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, yes func(ctx context.Context) bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		answer := yes(ctx)
		cancel()
		if answer {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond) // between two questions, not instead of one
	}
}

// leader returns who leads, once those asked agree. No one is asked who is not among asked.
func (c *cluster) leader(asked ...*server) *server {
	c.t.Helper()
	if len(asked) == 0 {
		asked = c.servers
	}
	client := c.dial()
	var leader *server
	eventually(c.t, "one leader, and all know it", func(ctx context.Context) bool {
		leaders, ids := map[uint64]bool{}, map[uint64]*server{}
		for _, s := range asked {
			status, err := client.Status(ctx, s.client)
			if err != nil {
				return false
			}
			leaders[status.Leader] = true
			ids[status.Header.MemberId] = s
		}
		for id := range leaders {
			leader = ids[id]
		}
		return len(leaders) == 1 && leader != nil
	})
	return leader
}

// others are all but one.
func (c *cluster) others(not *server) []*server {
	var others []*server
	for _, s := range c.servers {
		if s != not {
			others = append(others, s)
		}
	}
	return others
}

func (s *server) id(client *clientv3.Client) uint64 {
	s.t.Helper()
	return must(client.Status(within(s.t), s.client))(s.t).Header.MemberId
}

// alike waits until all members are at the same revision, and compares their hashes there.
func (c *cluster) alike() {
	c.t.Helper()
	client := c.dial()
	eventually(c.t, "the same revision everywhere", func(ctx context.Context) bool {
		var hashes []*clientv3.HashKVResponse
		for _, s := range c.servers {
			hash, err := client.HashKV(ctx, s.client, 0)
			if err != nil {
				return false
			}
			hashes = append(hashes, hash)
		}
		for _, hash := range hashes {
			same := hash.Header.Revision == hashes[0].Header.Revision && hash.CompactRevision == hashes[0].CompactRevision
			if !same {
				return false
			}
			want(c.t, "hash", hash.Hash, hashes[0].Hash)
		}
		return true
	})
}

// faults are what a client of three members has to ride through. Each returns when all members serve again.
var faults = []struct {
	name string
	do   func(c *cluster)
}{
	{"the leader is killed", func(c *cluster) {
		leader := c.leader()
		leader.stop(syscall.SIGKILL)
		c.leader(c.others(leader)...)
		leader.start()
	}},
	{"all restart one by one", func(c *cluster) {
		for _, s := range c.servers {
			s.restart(syscall.SIGTERM)
			c.leader()
		}
	}},
	// Its connections stay open and nothing moves on them, as with a partition; then it goes on where it was.
	{"the leader stands still", func(c *cluster) {
		leader := c.leader()
		_ = leader.cmd.Process.Signal(syscall.SIGSTOP)
		c.leader(c.others(leader)...)
		_ = leader.cmd.Process.Signal(syscall.SIGCONT)
		c.leader()
	}},
	{"a follower stands still", func(c *cluster) {
		leader := c.leader()
		follower := c.others(leader)[0]
		client := leader.dial()
		_ = follower.cmd.Process.Signal(syscall.SIGSTOP)
		for i := range 500 {
			must(client.Put(within(c.t), "/behind/"+key(i), "v"))(c.t)
		}
		_ = follower.cmd.Process.Signal(syscall.SIGCONT)
		c.leader()
	}},
}
